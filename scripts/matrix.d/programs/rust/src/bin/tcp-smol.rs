use smol::io::AsyncReadExt;

fn main() -> std::io::Result<()> {
    let peer = std::env::args().nth(1).expect("an address");
    smol::block_on(async { smol::net::TcpStream::connect(peer).await?.read_exact(&mut [0]).await })
}
