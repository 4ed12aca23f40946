fn main() {
    let url = std::env::args().nth(1).expect("a URL");
    println!("{:?}", ureq::get(&url).call());
}
