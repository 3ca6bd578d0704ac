//! What runs inside an instance: servers, clients and senders of raw frames.
//! Exit status 0 if a client found what it looked for.

#![forbid(unsafe_code)]

use std::io::{BufRead, Error, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1000);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe {words:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["tcp-echo", port] => tcp_echo(number(port)?),
        ["udp-echo", port] => udp_echo(number(port)?),
        ["tcp", host, port] => ask_tcp(address(host, port)?),
        ["udp", host, port] => ask_udp(address(host, port)?, 0),
        ["udp", host, port, from] => ask_udp(address(host, port)?, number(from)?),
        ["udp-flood", host, port, count] => flood_udp(address(host, port)?, number(count)?),
        ["talk", "tcp", host, port] => talk_tcp(address(host, port)?),
        ["talk", "udp", host, port] => talk_udp(address(host, port)?),
        ["transfer-server", port] => transfer_server(number(port)?),
        ["transfer", "up", host, port, bytes] => send(address(host, port)?, number(bytes)?, Duration::ZERO),
        ["transfer", "trickle", host, port, bytes] => {
            send(address(host, port)?, number(bytes)?, Duration::from_millis(1))
        }
        ["transfer", "down", host, port, bytes] => receive(address(host, port)?, number(bytes)?),
        ["raw", frames @ ..] => raw(frames),
        _ => Err(Error::other("these words are not known")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::other(format!("'{text}' is no number")))
}

fn address(host: &str, port: &str) -> Result<SocketAddr> {
    let host: IpAddr = host.parse().map_err(|_| Error::other(format!("'{host}' is no address")))?;
    Ok(SocketAddr::new(host, number(port)?))
}

fn ready() -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()
}

/// Serves both families.
fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(SocketAddr::new("::".parse().map_err(Error::other)?, port))
}

fn tcp_echo(port: u16) -> Result<()> {
    let listener = listen(port)?;
    ready()?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

fn udp_echo(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(SocketAddr::new("::".parse().map_err(Error::other)?, port))?;
    ready()?;
    let mut bytes = [0; 2048];
    loop {
        // An ICMP error about an earlier answer is no reason to end.
        if let Ok((n, from)) = socket.recv_from(&mut bytes) {
            drop(socket.send_to(&bytes[..n], from));
        }
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo_over_tcp(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)
}

fn ask_tcp(to: SocketAddr) -> Result<()> {
    echo_over_tcp(&mut connect(to)?)
}

fn udp_socket(to: SocketAddr, from: u16) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = UdpSocket::bind(SocketAddr::new(any.parse().map_err(Error::other)?, from))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn echo_over_udp(socket: &UdpSocket) -> Result<()> {
    socket.send(b"hello")?;
    let mut answer = [0; 16];
    socket.recv(&mut answer).map(drop)
}

fn ask_udp(to: SocketAddr, from: u16) -> Result<()> {
    echo_over_udp(&udp_socket(to, from)?)
}

/// Says what becomes of each line's question.
/// Sends datagrams that nobody is to answer.
fn flood_udp(to: SocketAddr, count: u32) -> Result<()> {
    let socket = udp_socket(to, 0)?;
    for _ in 0..count {
        socket.send(&[0; 100])?;
    }
    Ok(())
}

fn talk(mut ask: impl FnMut() -> Result<()>) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "open")?;
    stdout.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let answer = if ask().is_ok() { "heard" } else { "silence" };
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn talk_tcp(to: SocketAddr) -> Result<()> {
    let mut stream = connect(to)?;
    echo_over_tcp(&mut stream)?;
    talk(|| echo_over_tcp(&mut stream))
}

fn talk_udp(to: SocketAddr) -> Result<()> {
    let socket = udp_socket(to, 0)?;
    echo_over_udp(&socket)?;
    talk(|| echo_over_udp(&socket))
}

/// Bytes without end, and their checksum (FNV-1a over words).
struct Stream(u64, u64);

impl Stream {
    fn new() -> Stream {
        Stream(0x9e37_79b9_7f4a_7c15, 0xcbf2_9ce4_8422_2325)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.1 = (self.1 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn send_stream(stream: &mut TcpStream, mut left: u64, pause: Duration) -> Result<()> {
    let mut source = Stream::new();
    // With pauses in between, so little that no queue on the way fills up.
    let mut block = vec![0; if pause.is_zero() { 65536 } else { 8192 }];
    while left > 0 {
        let n = left.min(block.len() as u64) as usize;
        source.fill(&mut block[..n]);
        source.add(&block[..n]);
        stream.write_all(&block[..n])?;
        left -= n as u64;
        std::thread::sleep(pause);
    }
    stream.write_all(&source.1.to_le_bytes())
}

fn receive_stream(stream: &mut TcpStream, mut left: u64) -> Result<()> {
    let mut sink = Stream::new();
    let mut block = [0; 65536];
    while left > 0 {
        let most = left.min(65536) as usize;
        let n = stream.read(&mut block[..most])?;
        if n == 0 {
            return Err(Error::other(format!("{left} bytes are missing")));
        }
        sink.add(&block[..n]);
        left -= n as u64;
    }
    let mut sum = [0; 8];
    stream.read_exact(&mut sum)?;
    match u64::from_le_bytes(sum) == sink.1 {
        true => Ok(()),
        false => Err(Error::other("the checksums differ")),
    }
}

fn transfer_server(port: u16) -> Result<()> {
    let listener = listen(port)?;
    ready()?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [up, length @ ..] = head;
        let length = u64::from_le_bytes(length);
        match up {
            1 => {
                receive_stream(&mut stream, length)?;
                stream.write_all(b"k")?;
            }
            _ => send_stream(&mut stream, length, Duration::ZERO)?,
        }
    }
    Ok(())
}

fn open_transfer(up: bool, to: SocketAddr, bytes: u64) -> Result<TcpStream> {
    let mut stream = connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&[u8::from(up)])?;
    stream.write_all(&bytes.to_le_bytes())?;
    Ok(stream)
}

fn receive(from: SocketAddr, bytes: u64) -> Result<()> {
    receive_stream(&mut open_transfer(false, from, bytes)?, bytes)
}

fn send(to: SocketAddr, bytes: u64, pause: Duration) -> Result<()> {
    let mut stream = open_transfer(true, to, bytes)?;
    send_stream(&mut stream, bytes, pause)?;
    let mut done = [0; 1];
    stream.read_exact(&mut done)
}

/// Sends frames as they are, each in hexadecimal digits.
fn raw(frames: &[&str]) -> Result<()> {
    let addresses = nix::ifaddrs::getifaddrs().map_err(Error::from)?;
    let link = addresses
        .filter(|a| a.interface_name == "eth0")
        .find_map(|a| a.address.and_then(|a| a.as_link_addr().copied()))
        .ok_or_else(|| Error::other("there is no eth0"))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)?;
    for frame in frames {
        let bytes: Vec<u8> = (0..frame.len() / 2)
            .map(|i| u8::from_str_radix(&frame[2 * i..2 * i + 2], 16))
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::other)?;
        sendto(socket.as_raw_fd(), &bytes, &link, MsgFlags::empty())?;
    }
    Ok(())
}
