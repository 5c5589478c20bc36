//! What `\p{…}` stands for: the general categories and scripts by the names that Go knows.
//!
//! Go's tables are those of Unicode 15.0; later characters count as unassigned.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, ClassUnicode, ClassUnicodeRange, HirKind};

use super::class::Class;

/// The version of Unicode that Go's tables are made from, as a set of characters.
const KNOWN: &str = r"\p{age=15.0}";

const SURROGATES: (u32, u32) = (0xD800, 0xDFFF);

const CATEGORIES: [&str; 38] = [
    "C", "Cc", "Cf", "Cn", "Co", "Cs", "L", "LC", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me",
    "Mn", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk",
    "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// The scripts of Unicode 15.0, sorted.
#[rustfmt::skip]
const SCRIPTS: [&str; 163] = [
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese",
    "Bamum", "Bassa_Vah", "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille",
    "Buginese", "Buhid", "Canadian_Aboriginal", "Carian", "Caucasian_Albanian", "Chakma", "Cham",
    "Cherokee", "Chorasmian", "Common", "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan",
    "Cyrillic", "Deseret", "Devanagari", "Dives_Akuru", "Dogra", "Duployan",
    "Egyptian_Hieroglyphs", "Elbasan", "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic",
    "Grantha", "Greek", "Gujarati", "Gunjala_Gondi", "Gurmukhi", "Han", "Hangul",
    "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew", "Hiragana", "Imperial_Aramaic", "Inherited",
    "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese", "Kaithi", "Kannada",
    "Katakana", "Kawi", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki",
    "Khudawadi", "Lao", "Latin", "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian",
    "Lydian", "Mahajani", "Makasar", "Malayalam", "Mandaic", "Manichaean", "Marchen",
    "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek", "Mende_Kikakui", "Meroitic_Cursive",
    "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro", "Multani", "Myanmar", "Nabataean",
    "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu",
    "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian", "Old_Italic",
    "Old_North_Arabian", "Old_Permic", "Old_Persian", "Old_Sogdian", "Old_South_Arabian",
    "Old_Turkic", "Old_Uyghur", "Oriya", "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene",
    "Pau_Cin_Hau", "Phags_Pa", "Phoenician", "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan",
    "Saurashtra", "Sharada", "Shavian", "Siddham", "SignWriting", "Sinhala", "Sogdian",
    "Sora_Sompeng", "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa",
    "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu", "Thaana",
    "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai", "Vithkuqi", "Wancho",
    "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square",
];

/// The set that `\p{name}` stands for, `None` when Go knows no such name.
pub(super) fn class(name: &str) -> Option<Class> {
    if name == "Any" {
        return Some(Class::any());
    }
    if name == "Cs" {
        return Some(Class::new([SURROGATES]));
    }
    let property = if CATEGORIES.contains(&name) {
        "gc"
    } else if SCRIPTS.binary_search(&name).is_ok() {
        "sc"
    } else {
        return None;
    };
    let mut members = table(&format!(r"\p{{{property}={name}}}"));
    members.intersect(known());
    let mut class = from_table(&members);
    if matches!(name, "C" | "Cn") {
        class.extend(&from_table(known()).negated());
    }
    if name == "Cn" {
        class.normalize();
        return Some(without_surrogates(&class));
    }
    class.normalize();
    Some(class)
}

/// The characters that Go knows.
pub(super) fn known() -> &'static ClassUnicode {
    static CHARACTERS: LazyLock<ClassUnicode> = LazyLock::new(|| table(KNOWN));
    &CHARACTERS
}

fn table(pattern: &str) -> ClassUnicode {
    match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(HirClass::Unicode(class))) => class,
        // The only member of a class.
        Ok(HirKind::Literal(literal)) => {
            let only = std::str::from_utf8(&literal.0).ok().and_then(|text| text.chars().next());
            ClassUnicode::new(only.map(|c| ClassUnicodeRange::new(c, c)))
        }
        // Every name above is in the tables, as a test shows.
        _ => ClassUnicode::empty(),
    }
}

fn from_table(table: &ClassUnicode) -> Class {
    Class::new(table.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))))
}

fn without_surrogates(class: &Class) -> Class {
    let mut outside = class.negated();
    outside.extend(&Class::new([SURROGATES]));
    outside.normalize();
    outside.negated()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(class: &Class, c: char) -> bool {
        class.ranges().iter().any(|&(lo, hi)| (lo..=hi).contains(&u32::from(c)))
    }

    #[test]
    fn every_name_has_members() {
        assert!(SCRIPTS.is_sorted());
        for name in CATEGORIES.iter().chain(&SCRIPTS) {
            assert!(!class(name).unwrap().ranges().is_empty(), "{name}");
        }
    }

    #[test]
    fn names_are_exact() {
        for name in ["", "greek", "Grek", "Letter", "Alphabetic", "Unknown", "Garay", "ll", "ASCII"]
        {
            assert!(class(name).is_none(), "{name}");
        }
    }

    #[test]
    fn members() {
        assert!(contains(&class("Greek").unwrap(), 'α'));
        assert!(contains(&class("Lu").unwrap(), 'Ä'));
        assert!(!contains(&class("Lu").unwrap(), 'ä'));
        // U+1C89 came with Unicode 16.
        assert!(!contains(&class("L").unwrap(), '\u{1C89}'));
        assert!(contains(&class("Cn").unwrap(), '\u{1C89}'));
        assert!(contains(&class("C").unwrap(), '\u{E000}'));
        assert!(!contains(&class("Cn").unwrap(), '\u{E000}'));
        assert_eq!(class("Braille").unwrap().ranges(), [(0x2800, 0x28FF)]);
    }
}
