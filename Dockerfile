# The appliance as a container: the Debian package over Debian 12. Two ways to it:
#
#   docker build -t sgswitch .
#       compiles in the first stage, over the image of Rust that RUST names. Not run to
#       its end yet.
#   scripts/package && docker build --build-arg PACKAGE=made -t sgswitch .
#       takes the package of target/debian, which a Debian 12 has made before. Tested.
#
# scripts/container builds it either way, without Docker and without a registry of images.
ARG DEBIAN=debian:12
ARG DEBIAN_SLIM=debian:12-slim
# Rust 1.90 or later over Debian 12.
ARG RUST=rust:1-bookworm
ARG PACKAGE=compiled

FROM ${RUST} AS compiled
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev make pkg-config clang libclang-dev libdpdk-dev dpdk dpkg-dev
WORKDIR /src
COPY . .
RUN SGSWITCH_PACKAGES=/packages scripts/package

FROM ${DEBIAN} AS made
COPY target/debian/sgswitch_*.deb /packages/

FROM ${PACKAGE} AS package

FROM ${DEBIAN_SLIM}
COPY --from=package /packages /packages
# Not root, and without a capability but for those that `--cap-add` gives: the file may
# take these two if they are given, and starts without them as well.
RUN apt-get update \
    && apt-get install -y --no-install-recommends /packages/sgswitch_*.deb libcap2-bin \
    && setcap cap_net_raw,cap_net_admin=p /usr/sbin/sgswitchd \
    && apt-get purge -y --auto-remove libcap2-bin \
    && rm -rf /packages /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --system --gid sgswitch --home-dir /var/lib/sgswitch sgswitch \
    && install -d -m 700 -o sgswitch -g sgswitch /var/lib/sgswitch /var/log/sgswitch \
    && install -d -o sgswitch -g sgswitch /run/sgswitch
USER sgswitch
# The policy; the API's socket, beside those of virtual machines.
VOLUME ["/var/lib/sgswitch", "/run/sgswitch"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sgctl", "show", "status"]
ENTRYPOINT ["sgswitchd", "--config", "/etc/sgswitch/sgswitchd.toml"]
