//! Query strings, forms and path parameters as typed values.
//!
//! One deserializer for all three: every value is text, so numbers and booleans are parsed here (`true`, `True` and `1` all
//! mean yes), a key that appears several times fills a list, and a name nobody asked for is refused with the nearest one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_path_to_error::Segment;

/// Most parameters one request may carry.
const PARAMETERS_MAX: usize = 256;

/// Why parameters could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A `%` sequence that is cut short, or bytes that are not UTF-8.
    #[error("`{0}` is not valid percent-encoded UTF-8")]
    Encoding(String),
    /// More than [`PARAMETERS_MAX`].
    #[error("there are more than {PARAMETERS_MAX} parameters")]
    TooMany,
    /// A value does not fit. The parameter is known when one value was parsed.
    #[error("{message}")]
    Value {
        /// Name of the parameter, empty if unknown.
        name: String,
        /// What is wrong with it.
        message: String,
    },
}

impl de::Error for ParamError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value { name: String::new(), message: message.to_string() }
    }
}

impl ParamError {
    /// Gives an error that does not know its parameter the name of it.
    fn of(self, parameter: Option<&str>) -> Self {
        match (self, parameter) {
            (Self::Value { name, message }, Some(parameter))
                if name.is_empty() && !message.starts_with("unknown field") =>
            {
                Self::Value { name: parameter.to_owned(), message: format!("`{parameter}`: {message}") }
            }
            (error, _) => error,
        }
    }
}

/// Parses `a=1&b=two` as browsers and `curl --data-urlencode` write it.
pub fn parse_urlencoded<T: DeserializeOwned>(text: &str) -> Result<T, ParamError> {
    let mut pairs = Vec::new();
    for piece in text.split('&').filter(|piece| !piece.is_empty()) {
        if pairs.len() == PARAMETERS_MAX {
            return Err(ParamError::TooMany);
        }
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        pairs.push((decode(key)?, decode(value)?));
    }
    from_pairs(&pairs)
}

/// Fills `T` from pairs; a repeated name is legal only where `T` has a list.
pub fn from_pairs<'de, T: Deserialize<'de>>(pairs: &'de [(Cow<'de, str>, Cow<'de, str>)]) -> Result<T, ParamError> {
    let mut names: Vec<(&'de str, Vec<&'de str>)> = Vec::new();
    for (name, value) in pairs {
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => names.push((name, vec![value])),
        }
    }
    let values = names.into_iter().map(|(name, values)| (name, Values { name, values }));
    serde_path_to_error::deserialize(MapDeserializer::new(values)).map_err(|error| {
        let name = error.path().iter().find_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        error.into_inner().of(name.as_deref())
    })
}

/// Fills `T` from the values alone: one value, or a tuple of them in the order of the path.
pub fn from_path<'de, T: Deserialize<'de>>(parameters: &'de [(Cow<'de, str>, Cow<'de, str>)]) -> Result<T, ParamError> {
    serde_path_to_error::deserialize(PathValues(parameters)).map_err(|error| {
        let index = error.path().iter().find_map(|segment| match segment {
            Segment::Seq { index } => Some(*index),
            _ => None,
        });
        error.into_inner().of(parameters.get(index.unwrap_or(0)).map(|(name, _)| name.as_ref()))
    })
}

/// Undoes `application/x-www-form-urlencoded`.
pub fn decode(text: &str) -> Result<Cow<'_, str>, ParamError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let bad = || ParamError::Encoding(text.chars().take(80).collect());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(bad);
                let value = digit()? * 16 + digit()?;
                bytes.push(u8::try_from(value).map_err(|_| bad())?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| bad())
}

/// All values of one parameter.
struct Values<'de> {
    name: &'de str,
    values: Vec<&'de str>,
}

impl<'de> Values<'de> {
    fn one(&self) -> Result<Text<'de>, ParamError> {
        match self.values.as_slice() {
            [value] => Ok(Text { name: self.name, value }),
            _ => Err(self.wrong("is given more than once")),
        }
    }

    fn wrong(&self, message: &str) -> ParamError {
        ParamError::Value { name: self.name.to_owned(), message: format!("`{}` {message}", self.name) }
    }
}

impl<'de> IntoDeserializer<'de, ParamError> for Values<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! delegate_to_one {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            self.one()?.$method(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Values<'de> {
    type Error = ParamError;

    delegate_to_one! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_map deserialize_identifier
        deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        if self.values.as_slice() == [""] { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let name = self.name;
        visitor.visit_seq(SeqDeserializer::new(self.values.into_iter().map(move |value| Text { name, value })))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, ParamError> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ParamError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, n: &'static str, visitor: V) -> Result<V::Value, ParamError> {
        self.one()?.deserialize_unit_struct(n, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ParamError> {
        Err(self.wrong("cannot hold an object"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.one()?.deserialize_enum(name, variants, visitor)
    }
}

/// One value.
struct Text<'de> {
    name: &'de str,
    value: &'de str,
}

impl Text<'_> {
    fn wanted(&self, what: &str) -> ParamError {
        let message =
            format!("`{}` takes {what}, not `{}`", self.name, self.value.chars().take(80).collect::<String>());
        ParamError::Value { name: self.name.to_owned(), message }
    }
}

impl<'de> IntoDeserializer<'de, ParamError> for Text<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// What people, Python and HTML forms write for a boolean.
#[must_use]
pub fn lenient_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "on" | "yes" => Some(true),
        "0" | "off" | "no" => Some(false),
        other if other.eq_ignore_ascii_case("true") => Some(true),
        other if other.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            let number = self.value.trim().parse().map_err(|_| self.wanted("a number"))?;
            visitor.$visit(number)
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_borrowed_str(self.value)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        // `?dry_run` alone means yes.
        let yes = if self.value.is_empty() { Some(true) } else { lenient_bool(self.value) };
        visitor.visit_bool(yes.ok_or_else(|| self.wanted("`true` or `false`"))?)
    }

    numbers! {
        deserialize_i8 visit_i8; deserialize_i16 visit_i16; deserialize_i32 visit_i32; deserialize_i64 visit_i64;
        deserialize_u8 visit_u8; deserialize_u16 visit_u16; deserialize_u32 visit_u32; deserialize_u64 visit_u64;
        deserialize_f32 visit_f32; deserialize_f64 visit_f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        if self.value.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, ParamError> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_seq(SeqDeserializer::new(std::iter::once(self)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        let value: StrDeserializer<'_, ParamError> = self.value.into_deserializer();
        visitor.visit_enum(value)
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any i128 u128
    }
}

/// The parameters of a path, in its order.
struct PathValues<'de>(&'de [(Cow<'de, str>, Cow<'de, str>)]);

impl<'de> PathValues<'de> {
    fn texts(&self) -> impl Iterator<Item = Text<'de>> + use<'de> {
        self.0.iter().map(|(name, value)| Text { name, value })
    }
}

impl<'de> Deserializer<'de> for PathValues<'de> {
    type Error = ParamError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let mut texts = self.texts();
        match (texts.next(), texts.next()) {
            (Some(only), None) => only.deserialize_any(visitor),
            _ => Err(de::Error::custom("the route has another number of parameters than its handler")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, ParamError> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_seq(SeqDeserializer::new(self.texts()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_map(MapDeserializer::new(self.texts().map(|text| (text.name, text))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let only = self.texts().next().ok_or_else(|| de::Error::custom("the route has no parameter"))?;
        only.deserialize_u32(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let only = self.texts().next().ok_or_else(|| de::Error::custom("the route has no parameter"))?;
        only.deserialize_i64(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple_struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, TopicName};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Args {
        #[serde(default)]
        dry_run: bool,
        limit: Option<u32>,
        #[serde(default)]
        label: Vec<String>,
        owner: Option<AppName>,
    }

    #[test]
    fn booleans_are_lenient_and_lists_repeat() {
        for yes in ["true", "True", "TRUE", "1", "yes", "on", ""] {
            assert!(parse_urlencoded::<Args>(&format!("dry_run={yes}")).unwrap().dry_run, "{yes}");
        }
        for no in ["false", "False", "0", "no", "off"] {
            assert!(!parse_urlencoded::<Args>(&format!("dry_run={no}")).unwrap().dry_run, "{no}");
        }
        let args: Args = parse_urlencoded("label=a%3D1&limit=5&label=b+c").unwrap();
        assert_eq!(args.label, ["a=1", "b c"]);
        assert_eq!(args.limit, Some(5));
    }

    #[test]
    fn what_cannot_be_understood_names_its_parameter() {
        let message = |q: &str| parse_urlencoded::<Args>(q).unwrap_err().to_string();
        assert_eq!(message("dry_run=maybe"), "`dry_run` takes `true` or `false`, not `maybe`");
        assert_eq!(message("limit=-1"), "`limit` takes a number, not `-1`");
        assert_eq!(message("limit=1&limit=2"), "`limit` is given more than once");
        assert!(message("owner=Bad").starts_with("`owner`: an application name has"), "{}", message("owner=Bad"));
        assert!(message("limt=1").starts_with("unknown field `limt`"));
        assert_eq!(message("label=%ff"), "`%ff` is not valid percent-encoded UTF-8");
        assert_eq!(message("label=%z1"), "`%z1` is not valid percent-encoded UTF-8");
        assert_eq!(message(&"label=a&".repeat(300)), "there are more than 256 parameters");
    }

    #[test]
    fn an_empty_optional_value_counts_as_absent() {
        assert_eq!(parse_urlencoded::<Args>("owner=&limit=").unwrap().owner, None);
    }

    #[test]
    fn paths_fill_one_name_a_tuple_or_a_struct() {
        let one = [(Cow::Borrowed("topic"), Cow::Borrowed("orders"))];
        assert_eq!(from_path::<TopicName>(&one).unwrap().as_str(), "orders");
        let two = [one[0].clone(), (Cow::Borrowed("app"), Cow::Borrowed("checkout"))];
        let (topic, app): (TopicName, AppName) = from_path(&two).unwrap();
        assert_eq!((topic.as_str(), app.as_str()), ("orders", "checkout"));
        let three = [one[0].clone(), ("p".into(), "3".into()), ("o".into(), "77".into())];
        assert_eq!(from_path::<(TopicName, u32, i64)>(&three).unwrap().2, 77);
    }
}
