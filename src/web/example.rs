//! Examples in an OpenAPI document: of a body, where it has one, else put together from its schema.

use serde_json::{Value, json};

/// The example of a media type: its own, or its schema's.
#[must_use]
pub fn example_of(media: &Value, schemas: &Value) -> Option<Value> {
    if let Some(example) = media.get("example") {
        return Some(example.clone());
    }
    if let Some(named) = media.get("examples").and_then(Value::as_object).and_then(|all| all.values().next()) {
        return named.get("value").or_else(|| named.get("dataValue")).cloned();
    }
    example_of_schema(media.get("schema").or_else(|| media.get("itemSchema"))?, schemas, 0)
}

/// Schemas nest; deeper than this no example is looked for.
const EXAMPLE_DEPTH_MAX: usize = 8;

fn example_of_schema(schema: &Value, schemas: &Value, depth: usize) -> Option<Value> {
    if depth > EXAMPLE_DEPTH_MAX {
        return None;
    }
    if let Some(example) = schema.get("example") {
        return Some(example.clone());
    }
    if let Some(example) = schema.get("examples").and_then(Value::as_array).and_then(|all| all.first()) {
        return Some(example.clone());
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return example_of_schema(&schemas[name.rsplit('/').next()?], schemas, depth + 1);
    }
    if schema["type"] == "array" {
        return Some(json!([example_of_schema(&schema["items"], schemas, depth + 1)?]));
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let pairs = properties.iter().map(|(name, property)| {
            (name.clone(), example_of_schema(property, schemas, depth + 1).unwrap_or(Value::Null))
        });
        return Some(Value::Object(pairs.collect()));
    }
    None
}
