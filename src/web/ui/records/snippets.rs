//! "Use it": commands and programs that work when pasted, with the viewer's own names filled in.

use crate::names::{AppName, TopicName};

/// One way to use a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub id: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    pub code: String,
}

/// What the snippets are about.
pub struct Target<'a> {
    /// `http://127.0.0.1:8080`
    pub base_url: &'a str,
    pub topic: &'a TopicName,
    /// The viewer's application; its name becomes the name of the variable's file and the user agent.
    pub app: Option<&'a AppName>,
    /// Personal tokens and application tokens are used alike; this is how the viewer should set one.
    pub token: &'a str,
}

impl Target<'_> {
    fn records(&self) -> String {
        format!("{}/v1/topics/{}/records", self.base_url, self.topic)
    }

    fn client(&self) -> &str {
        self.app.map_or("my-app", AppName::as_str)
    }

    /// Sends one event.
    #[must_use]
    pub fn produce(&self, value: &str) -> String {
        format!(
            "curl -fsS '{}' \\\n  -H \"Authorization: Bearer {}\" \\\n  -H 'Content-Type: application/json' \\\n  -d {}",
            self.records(),
            self.token,
            shell_quoted(value)
        )
    }

    /// Follows the topic as server-sent events.
    #[must_use]
    pub fn tail(&self) -> String {
        format!("curl -fsSN '{}?format=sse' \\\n  -H \"Authorization: Bearer {}\"", self.records(), self.token)
    }

    /// Follows the topic as lines of JSON, from a position.
    #[must_use]
    pub fn ndjson(&self, from: &str) -> String {
        format!(
            "curl -fsSN '{}?format=ndjson&from={from}' \\\n  -H \"Authorization: Bearer {}\"",
            self.records(),
            self.token
        )
    }

    /// Reads one record.
    #[must_use]
    pub fn one(&self, partition: u32, offset: i64) -> String {
        format!(
            "curl -fsS '{}/v1/topics/{}/partitions/{partition}/records/{offset}' \\\n  -H \"Authorization: Bearer {}\"",
            self.base_url, self.topic, self.token
        )
    }

    /// All of them, in the order in which a newcomer needs them.
    #[must_use]
    pub fn all(&self) -> Vec<Snippet> {
        vec![
            Snippet {
                id: "produce",
                title: "Send an event",
                about: "The body is the value. Answered once it is on disk, with its partition and offset.",
                code: self.produce(r#"{"hello":"world"}"#),
            },
            Snippet {
                id: "batch",
                title: "Send many at once",
                about: "One JSON value a line; all of them are stored, or none.",
                code: format!(
                    "curl -fsS '{}' \\\n  -H \"Authorization: Bearer {}\" \\\n  -H 'Content-Type: application/x-ndjson' \\\n  --data-binary @events.ndjson",
                    self.records(),
                    self.token
                ),
            },
            Snippet {
                id: "sse",
                title: "Follow live (server-sent events)",
                about: "Begins with the next event. After a dropped connection send the last id as Last-Event-ID and nothing is missed.",
                code: self.tail(),
            },
            Snippet {
                id: "ndjson",
                title: "Read everything, then follow (lines of JSON)",
                about: "What you read you can write: the lines are valid input for another topic with as=record.",
                code: format!("{} | jq -c .value", self.ndjson("earliest")),
            },
            Snippet { id: "python", title: "Python", about: "The standard library is enough.", code: self.python() },
            Snippet {
                id: "javascript",
                title: "JavaScript",
                about: "Node 20 or later; no package needed.",
                code: self.javascript(),
            },
        ]
    }

    fn python(&self) -> String {
        format!(
            r#"import json, os, urllib.request

URL = "{url}"
AUTH = {{"Authorization": "Bearer " + os.environ["WEIR_TOKEN"], "User-Agent": "{client}"}}

def send(value):
    request = urllib.request.Request(URL, json.dumps(value).encode(), AUTH | {{"Content-Type": "application/json"}})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)          # {{"partition": 0, "offset": 42, ...}}

def follow(start="latest"):
    request = urllib.request.Request(f"{{URL}}?format=ndjson&from={{start}}", headers=AUTH)
    with urllib.request.urlopen(request) as stream:
        for line in stream:
            if line.strip():              # an empty line is a heartbeat
                yield json.loads(line)

print(send({{"hello": "world"}}))
for event in follow("-10"):
    print(event["partition"], event["offset"], event["value"])
"#,
            url = self.records(),
            client = self.client()
        )
    }

    fn javascript(&self) -> String {
        format!(
            r#"const url = "{url}";
const headers = {{ Authorization: `Bearer ${{process.env.WEIR_TOKEN}}`, "User-Agent": "{client}" }};

const sent = await fetch(url, {{
  method: "POST",
  headers: {{ ...headers, "Content-Type": "application/json" }},
  body: JSON.stringify({{ hello: "world" }}),
}});
console.log(await sent.json());           // {{ partition: 0, offset: 42, ... }}

const stream = await fetch(`${{url}}?format=ndjson&from=-10`, {{ headers }});
let rest = "";
for await (const chunk of stream.body.pipeThrough(new TextDecoderStream())) {{
  const lines = (rest + chunk).split("\n");
  rest = lines.pop();
  for (const line of lines.filter(Boolean)) {{ // an empty line is a heartbeat
    const event = JSON.parse(line);
    console.log(event.partition, event.offset, event.value);
  }}
}}
"#,
            url = self.records(),
            client = self.client()
        )
    }
}

/// `text` as one word of a POSIX shell.
#[must_use]
pub fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_snippet_names_the_topic_and_needs_no_editing() {
        let topic = "flights.departures".parse().expect("a topic name");
        let app = "airport-board".parse().expect("an application name");
        let target = Target { base_url: "http://127.0.0.1:8080", topic: &topic, app: Some(&app), token: "$WEIR_TOKEN" };
        for snippet in target.all() {
            assert!(
                snippet.code.contains("http://127.0.0.1:8080/v1/topics/flights.departures/records"),
                "{}",
                snippet.id
            );
            assert!(!snippet.code.contains('<') && snippet.code.contains("WEIR_TOKEN"), "{}", snippet.id);
        }
        assert!(target.all().iter().any(|s| s.code.contains("airport-board")));
    }

    #[test]
    fn a_quote_in_a_value_cannot_end_the_shell_word() {
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
    }
}
