#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("a URL");
    println!("{:?}", reqwest::get(url).await);
}
