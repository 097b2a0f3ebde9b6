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

/// The continents, each with the countries in it; together all of [`CODES`].
const CONTINENTS: [(Continent, &str); 7] = [
    (
        Continent::Africa,
        "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG \
         RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
    ),
    (Continent::Antarctica, "AQ BV GS HM TF"),
    (
        Continent::Asia,
        "AE AF AM AZ BD BH BN BT CC CN CX GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH \
         PK PS QA SA SG SY TH TJ TM TR TW UZ VN YE",
    ),
    (
        Continent::Europe,
        "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT \
         NL NO PL PT RO RS RU SE SI SJ SK SM UA VA",
    ),
    (
        Continent::NorthAmerica,
        "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US \
         VC VG VI",
    ),
    (Continent::Oceania, "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS"),
    (Continent::SouthAmerica, "AR BO BR CL CO EC FK GF GY PE PY SR UY VE"),
];

/// A continent, as geo databases know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Continent {
    /// AF.
    Africa,
    /// AN.
    Antarctica,
    /// AS.
    Asia,
    /// EU: the continent, which is not the European Union.
    Europe,
    /// NA, with Central America and the Caribbean.
    NorthAmerica,
    /// OC.
    Oceania,
    /// SA.
    SouthAmerica,
}

impl Continent {
    /// The continent of a country (ISO 3166-1 alpha-2, upper case).
    #[must_use]
    pub fn of(country: [u8; 2]) -> Option<Self> {
        let has = |countries: &'static str| codes(countries).any(|code| code == country);
        CONTINENTS.iter().find(|(_, countries)| has(countries)).map(|(continent, _)| *continent)
    }

    /// Its two letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Africa => "AF",
            Self::Antarctica => "AN",
            Self::Asia => "AS",
            Self::Europe => "EU",
            Self::NorthAmerica => "NA",
            Self::Oceania => "OC",
            Self::SouthAmerica => "SA",
        }
    }
}

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

/// Whether a country (ISO 3166-1 alpha-2, upper case) is a member of the European Union.
#[must_use]
pub fn in_european_union(country: [u8; 2]) -> bool {
    codes(EU).any(|code| code == country)
}

fn codes(list: &'static str) -> impl Iterator<Item = [u8; 2]> {
    list.split_ascii_whitespace().filter_map(|code| code.as_bytes().try_into().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_country_is_of_one_continent() {
        let mut listed: Vec<_> = CONTINENTS.iter().flat_map(|(_, countries)| codes(countries)).collect();
        listed.sort_unstable();
        assert_eq!(listed, codes(CODES).collect::<Vec<_>>());
        assert_eq!(Continent::of(*b"TR").map(Continent::as_str), Some("AS"));
        assert_eq!(Continent::of(*b"xx"), None);
    }

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
