//! x
fn main() {
    if let Ok(q) = std::env::var("Q") {
        let s: usize = std::env::var("S").unwrap().parse().unwrap();
        std::thread::Builder::new()
            .stack_size(s)
            .spawn(move || {
                let e = promql::parse::parse(&q, &promql::parse::ParseOptions::all());
                assert!(e.is_ok());
                std::mem::forget(e);
            })
            .unwrap()
            .join()
            .unwrap();
        return;
    }
    for (o, c) in [
        ("(", ")"),
        ("abs(", ")"),
        ("sum by (x) (", ")"),
        ("a + (", ")"),
        ("[(", ")"),
        ("[max_of(1, ", ")"),
    ] {
        let n = 90;
        let q = if let Some(o) = o.strip_prefix('[') {
            format!("a[{}1{}]", o.repeat(n), c.repeat(n))
        } else {
            format!("{}a{}", o.repeat(n), c.repeat(n))
        };
        let (mut lo, mut hi) = (16usize << 10, 16usize << 20);
        while hi - lo > 8 << 10 {
            let mid = (lo + hi) / 2;
            let st = std::process::Command::new(std::env::current_exe().unwrap())
                .env("Q", &q)
                .env("S", mid.to_string())
                .stderr(std::process::Stdio::null())
                .status();
            if st.unwrap().success() { hi = mid } else { lo = mid }
        }
        println!("{o}: {} bytes per level", hi / n);
    }
    println!("expr {}", std::mem::size_of::<promql::ast::Expr>());
}
