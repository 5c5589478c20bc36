//! x
use promql::parse::*;
fn main() {
    if let Ok(op) = std::env::var("OP") {
        let s: usize = std::env::var("S").unwrap().parse().unwrap();
        let q = vec!["a"; 2001].join(" + ");
        let e = std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(move || {
                (
                    parse(&q, &ParseOptions::all()).unwrap(),
                    parse(&q, &ParseOptions::all()).unwrap(),
                    q,
                )
            })
            .unwrap()
            .join()
            .unwrap();
        std::thread::Builder::new()
            .stack_size(s)
            .spawn(move || {
                let (mut e, f, q) = e;
                match op.as_str() {
                    "parse" => std::mem::forget(parse(&q, &ParseOptions::all())),
                    "print" => {
                        e.to_string();
                    }
                    "clone" => std::mem::forget(e.clone()),
                    "eq" => {
                        assert!(e == f);
                    }
                    "norm" => {
                        e.normalize();
                    }
                    "desc" => {
                        e.descendants().count();
                    }
                    "vt" => {
                        e.value_type();
                    }
                    "drop" => {
                        drop(e);
                        std::mem::forget(f);
                        return;
                    }
                    _ => {}
                }
                std::mem::forget(e);
                std::mem::forget(f);
            })
            .unwrap()
            .join()
            .unwrap();
        return;
    }
    for op in ["parse", "print", "clone", "eq", "norm", "desc", "vt", "drop"] {
        let (mut lo, mut hi) = (16usize << 10, 64usize << 20);
        while hi - lo > 8 << 10 {
            let mid = (lo + hi) / 2;
            let st = std::process::Command::new(std::env::current_exe().unwrap())
                .env("OP", op)
                .env("S", mid.to_string())
                .stderr(std::process::Stdio::null())
                .status();
            if st.unwrap().success() { hi = mid } else { lo = mid }
        }
        println!("{op}: {} bytes per level", hi / 2000);
    }
}
