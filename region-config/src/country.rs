//! The countries that there are, and the two sets of them that operators mean most often.

/// ISO 3166-1 alpha-2, officially assigned, in order.
const CODES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV \
BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG \
KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX \
MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG \
SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG \
VI VN VU WF WS YE YT ZA ZM ZW";

/// Members of the European Union.
const EU: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";

/// What the European Economic Area adds to the European Union.
const EEA_MORE: &str = "IS LI NO";

/// A named set of countries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Preset {
    /// The European Union.
    Eu,
    /// The European Economic Area.
    Eea,
}

impl Preset {
    /// The countries in it.
    pub(crate) fn countries(self) -> Vec<[u8; 2]> {
        let more = match self {
            Self::Eu => "",
            Self::Eea => EEA_MORE,
        };
        codes(EU).chain(codes(more)).collect()
    }
}

/// The code, if it is one of a country, in upper case.
pub(crate) fn known(text: &str) -> Option<[u8; 2]> {
    codes(CODES).find(|code| code == text.as_bytes())
}

fn codes(list: &'static str) -> impl Iterator<Item = [u8; 2]> {
    list.split_ascii_whitespace().filter_map(|code| code.as_bytes().try_into().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_lists_are_whole_ordered_and_within_each_other() {
        let all: Vec<_> = codes(CODES).collect();
        assert_eq!(all.len(), 249);
        assert!(all.is_sorted());
        assert_eq!((Preset::Eu.countries().len(), Preset::Eea.countries().len()), (27, 30));
        for code in Preset::Eea.countries() {
            assert!(known(std::str::from_utf8(&code).unwrap()).is_some());
        }
        assert!(known("UK").is_none() && known("de").is_none() && known("").is_none());
    }
}
