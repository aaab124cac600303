//! The query string: decoding, and parse functions for its parameters.

use percent_encoding::percent_decode_str;
use thalweg_control::{Error, Result};

/// Decoded parameters, in the order they came. Unknown ones are nobody's business.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `raw`. A plus sign is a plus sign: clients of the contract send a space as `%20`, and
    /// the signature covers it that way.
    pub(crate) fn parse(raw: &str) -> Query {
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Query(pairs.map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// The first value of `name`; an empty one counts as not given.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A text of at most `chars_max` characters.
    pub(crate) fn text(&self, name: &str, chars_max: usize) -> Result<Option<String>> {
        match self.get(name) {
            Some(value) if value.chars().count() > chars_max => Err(Error::invalid(
                name,
                format!("Give at most {chars_max} characters."),
            )),
            value => Ok(value.map(str::to_owned)),
        }
    }

    /// An integer from `min` to `max`.
    pub(crate) fn int(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.parse::<i64>().ok();
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None if number.is_some() => Err(Error::invalid(
                name,
                format!("Give an integer from {min} to {max}."),
            )),
            None => Err(Error::invalid(name, "Give an integer.")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Error::invalid(name, "Give true or false.")),
        }
    }

    /// One of `words`, whatever the case; gives the word as it stands in `words`.
    pub(crate) fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(value));
        match found {
            Some(word) => Ok(Some(word)),
            None => Err(Error::invalid(
                name,
                format!("Give one of {}.", words.join(", ")),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_a_plus_stays() {
        let query = Query::parse("name=cdc%20test%2F%E4%B8%AD&x=a+b&flag&=&empty=");
        assert_eq!(query.text("name", 64).unwrap().unwrap(), "cdc test/中");
        assert_eq!(query.text("x", 64).unwrap().unwrap(), "a+b");
        assert_eq!(query.text("flag", 64).unwrap(), None);
        assert_eq!(query.text("empty", 64).unwrap(), None);
    }

    #[test]
    fn a_wrong_value_names_its_parameter() {
        let query = Query::parse("limit=ten&offset=7&big=99999999999999999999&sort=up&flag=1");
        let field = |result: Result<()>| match result {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(query.int("limit", 0, 9).map(drop)), "limit");
        assert_eq!(field(query.int("offset", 0, 6).map(drop)), "offset");
        assert_eq!(field(query.int("big", 0, 6).map(drop)), "big");
        assert_eq!(
            field(query.word("sort", &["ASC", "DESC"]).map(drop)),
            "sort"
        );
        assert_eq!(field(query.flag("flag").map(drop)), "flag");
        assert_eq!(query.int("offset", 0, 7).unwrap(), Some(7));
        assert_eq!(query.int("absent", 0, 7).unwrap(), None);
    }
}
