use std::io::Read;
fn main() {
    let mut s = String::new();
    std::io::stdin().read_to_string(&mut s).unwrap();
    for line in s.split('\u{1}') {
        match promql::parse::parse(line, &promql::parse::ParseOptions::all()) {
            Ok(e) => print!("OK\u{2}{e}\u{1}"),
            Err(e) => {
                let f = &e.as_slice()[0];
                print!("{}\u{2}{}\u{2}{}\u{1}", f.span.start, f.span.end, f.kind)
            }
        }
    }
}
