use std::io::Read;

fn main() -> std::io::Result<()> {
    let peer = std::env::args().nth(1).expect("an address");
    std::net::TcpStream::connect(peer)?.read_exact(&mut [0])
}
