//! The kernel's calls.

use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_void};

/// packet(7): frames that we have sent are not to come back (Linux 4.20).
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// packet(7): a group's number that no other has (Linux 4.14).
const PACKET_FANOUT_FLAG_UNIQUEID: c_int = 0x2000;

/// Bytes of frames that wait in the kernel to be received by a queue: 64 KiB each, they are 256.
const RECEIVE_BUFFER: c_int = 16 << 20;
/// Bytes of frames that the kernel takes to be sent before it takes no more.
const SEND_BUFFER: c_int = 8 << 20;

/// A packet socket of one interface.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// One that receives nothing, and answers questions.
    pub fn idle() -> io::Result<Socket> {
        // SAFETY: makes a descriptor, owned from here on.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            Ok(Socket(OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0))?)))
        }
    }

    /// One that receives everything that the interface does, with the virtio-net
    /// header and what the kernel knows of a VLAN tag.
    pub fn open(interface: c_int) -> io::Result<Socket> {
        let socket = Socket::idle()?;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)?;
        // A full queue of a device refuses, instead of a queue in between that grows.
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        socket.set_size(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        socket.set_size(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        // SAFETY: plain numbers.
        let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface;
        // SAFETY: the address lives through the call.
        checked(unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        let everything = libc::packet_mreq {
            mr_ifindex: interface,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &everything)?;
        Ok(socket)
    }

    /// Shares what the interface receives with others, flow by flow. The first of
    /// them is given `None`, the others what it returns.
    pub fn share(&self, group: Option<u16>) -> io::Result<u16> {
        let kind = libc::PACKET_FANOUT_HASH as c_int;
        let argument = match group {
            Some(group) => c_int::from(group) | kind << 16,
            None => (kind | PACKET_FANOUT_FLAG_UNIQUEID) << 16,
        };
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)?;
        let mut given: c_int = 0;
        self.get(libc::PACKET_FANOUT, &mut given)?;
        Ok(given as u16)
    }

    /// Frames that the kernel has dropped since it was asked last, because nobody
    /// received them in time.
    pub fn missed(&self) -> io::Result<u64> {
        #[repr(C)]
        struct Statistics {
            packets: u32,
            drops: u32,
        }
        let mut statistics = Statistics { packets: 0, drops: 0 };
        self.get(libc::PACKET_STATISTICS, &mut statistics)?;
        Ok(statistics.drops.into())
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the value lives through the call, and is of its length.
        let code = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast::<c_void>(), length)
        };
        checked(code).map(drop)
    }

    /// Asks for so many bytes, or, without CAP_NET_ADMIN, for as many of them as
    /// anyone may have (`net.core.rmem_max`, `wmem_max`).
    fn set_size(&self, forced: c_int, plain: c_int, bytes: c_int) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, forced, &bytes).or_else(|_| self.set(libc::SOL_SOCKET, plain, &bytes))
    }

    fn get<T>(&self, option: c_int, value: &mut T) -> io::Result<()> {
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: writes at most the value's length.
        let code = unsafe {
            let value = (&raw mut *value).cast::<c_void>();
            libc::getsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, option, value, &mut length)
        };
        checked(code).map(drop)
    }

    /// Fills messages that there are. Returns how many; none is not an error.
    ///
    /// # Safety
    /// All that the messages point to is valid, and nobody else's.
    pub unsafe fn receive(&self, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
        // SAFETY: the caller's promise.
        let count = unsafe {
            let at = messages.as_mut_ptr();
            libc::recvmmsg(self.0.as_raw_fd(), at, messages.len() as u32, 0, std::ptr::null_mut())
        };
        match checked(count) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Sends the first of the messages. Returns how many, at least one.
    ///
    /// # Errors
    /// Why the first of them was not sent.
    ///
    /// # Safety
    /// All that the messages point to is valid.
    pub unsafe fn send(&self, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
        // SAFETY: the caller's promise.
        let count =
            unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
        Ok(checked(count)? as usize)
    }

    /// Asks about the interface of this number, whatever its name is by now.
    fn interface(&self, number: c_int, question: libc::Ioctl) -> io::Result<libc::ifreq> {
        // SAFETY: plain numbers.
        let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        request.ifr_ifru.ifru_ifindex = number;
        // SAFETY: both read and write the request.
        unsafe {
            checked(libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFNAME as libc::Ioctl, &raw mut request))?;
            checked(libc::ioctl(self.0.as_raw_fd(), question, &raw mut request))?;
        }
        Ok(request)
    }

    /// Whether the interface has a link.
    pub fn is_up(&self, number: c_int) -> io::Result<bool> {
        let request = self.interface(number, libc::SIOCGIFFLAGS as libc::Ioctl)?;
        // SAFETY: the kernel has written this field.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
    }

    /// The longest IP packet that it carries.
    pub fn mtu(&self, number: c_int) -> io::Result<u32> {
        let request = self.interface(number, libc::SIOCGIFMTU as libc::Ioctl)?;
        // SAFETY: the kernel has written this field.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// Its MAC.
    pub fn mac(&self, number: c_int) -> io::Result<[u8; 6]> {
        let request = self.interface(number, libc::SIOCGIFHWADDR as libc::Ioctl)?;
        // SAFETY: the kernel has written this field.
        let bytes = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
        Ok(std::array::from_fn(|at| bytes[at] as u8))
    }
}

/// Many sockets to be waited for together (epoll(7)).
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What one of them has been waited for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    pub const NONE: Event = Event(libc::epoll_event { events: 0, u64: 0 });

    /// The number under which it was added.
    pub fn number(self) -> u64 {
        self.0.u64
    }
}

impl Epoll {
    pub fn open() -> io::Result<Epoll> {
        // SAFETY: makes a descriptor, owned from here on.
        unsafe { Ok(Epoll(OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    /// Waits for this socket as well, from now on.
    pub fn add(&self, socket: &Socket, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        let (epoll, socket) = (self.0.as_raw_fd(), socket.0.as_raw_fd());
        // SAFETY: the event lives through the call.
        checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) }).map(drop)
    }

    /// Waits for it no more.
    pub fn remove(&self, socket: &Socket) {
        let (epoll, socket) = (self.0.as_raw_fd(), socket.0.as_raw_fd());
        // SAFETY: nothing is pointed to.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, socket, std::ptr::null_mut()) };
    }

    /// Waits until a socket can be received from, but no longer than this. Returns how
    /// many events there are. To the nanosecond, and so Linux 5.11.
    pub fn wait(&self, events: &mut [Event], longest: Duration) -> io::Result<usize> {
        let longest = libc::timespec {
            tv_sec: longest.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(longest.subsec_nanos()),
        };
        // SAFETY: events and time live through the call; no signals are named.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as c_int,
                &raw const longest,
                std::ptr::null::<c_void>(),
                0usize,
            )
        };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

/// The number of an interface of this name.
pub fn interface_number(name: &CStr) -> Option<c_int> {
    // SAFETY: reads the name.
    let number = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (number != 0).then_some(number as c_int)
}

fn checked(code: c_int) -> io::Result<c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}
