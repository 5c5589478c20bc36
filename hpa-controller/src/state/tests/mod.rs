//! State across processes, and decisions across files.

mod decisions;
mod memory;

use super::{BadMode, Mode};

#[test]
fn modes_have_one_word_everywhere() {
    for mode in [Mode::Active, Mode::Shadow] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
    }
    assert_eq!("Active".parse::<Mode>(), Err(BadMode));
    assert_eq!(Mode::default(), Mode::Shadow);
}
