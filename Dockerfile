# The appliance: built on Debian 12 beside its DPDK, run with the drivers alone.
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates curl gcc libc6-dev make pkg-config clang libclang-dev libdpdk-dev \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup
RUN curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y --profile minimal
ENV PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p agent -p sgctl

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends dpdk \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system sgswitch \
    && useradd --system --gid sgswitch --home-dir /var/lib/sgswitch sgswitch \
    && install -d -o sgswitch -g sgswitch /run/sgswitch /var/lib/sgswitch
COPY --from=build /src/target/release/sgswitchd /src/target/release/sgctl /usr/local/bin/
COPY docs/sgswitchd.toml /etc/sgswitch/sgswitchd.toml
# Ports over kernel interfaces need CAP_NET_RAW and CAP_NET_ADMIN; vfio needs
# its group's device, and hugepages their mount.
USER sgswitch
HEALTHCHECK --interval=10s --timeout=3s CMD ["sgctl", "show", "status"]
ENTRYPOINT ["sgswitchd", "--config", "/etc/sgswitch/sgswitchd.toml"]
