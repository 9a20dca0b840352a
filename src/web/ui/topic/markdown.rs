//! Markdown to HTML that is safe to show to anybody, whoever wrote it.
//!
//! Raw HTML is shown as text, never interpreted. A link goes to http, https or mail only and opens
//! without telling the target where it came from; an image becomes its description, so a page never loads anything from elsewhere.
//! Nothing here needs an inline style, so the content security policy stays strict.

use std::fmt;

use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};

/// HTML that came out of [`render`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SafeHtml(String);

impl SafeHtml {
    /// There is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SafeHtml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Renders Markdown (with tables and strike-through).
#[must_use]
pub fn render(markdown: &str) -> SafeHtml {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut links = Links::default();
    let events = Parser::new_ext(markdown, options).filter_map(|event| links.safe(event));
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut out, events);
    SafeHtml(out)
}

/// What has to be remembered between the start and the end of a link or image.
#[derive(Default)]
struct Links {
    /// For each open link, whether its start tag was written.
    open: Vec<bool>,
    /// Nesting of images: inside, only text remains.
    images: usize,
}

impl Links {
    fn safe<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        Some(match event {
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
            Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => return None,
            Event::Start(Tag::Link { dest_url, link_type, .. }) => return self.open_link(&dest_url, link_type),
            Event::End(TagEnd::Link) => return self.open.pop()?.then(|| Event::InlineHtml("</a>".into())),
            Event::Start(Tag::Image { .. }) => {
                self.images += 1;
                Event::InlineHtml("<em>".into())
            }
            Event::End(TagEnd::Image) => {
                self.images = self.images.saturating_sub(1);
                Event::InlineHtml("</em>".into())
            }
            Event::Start(Tag::Heading { level, .. }) => {
                Event::Start(Tag::Heading { level: demoted(level), id: None, classes: Vec::new(), attrs: Vec::new() })
            }
            Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(demoted(level))),
            // The alignment would become a style attribute, which the content security policy refuses.
            Event::Start(Tag::Table(columns)) => {
                Event::Start(Tag::Table(vec![pulldown_cmark::Alignment::None; columns.len()]))
            }
            other => other,
        })
    }

    fn open_link<'a>(&mut self, url: &str, link_type: LinkType) -> Option<Event<'a>> {
        let url = if link_type == LinkType::Email { format!("mailto:{url}") } else { url.to_owned() };
        let allowed = self.images == 0 && allowed_url(&url);
        self.open.push(allowed);
        allowed.then(|| {
            let href = escape(&url);
            Event::InlineHtml(CowStr::from(format!(r#"<a href="{href}" rel="nofollow noopener noreferrer">"#)))
        })
    }
}

/// The page has its own first and second level.
const fn demoted(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

fn allowed_url(url: &str) -> bool {
    let Some((scheme, _)) = url.split_once(':') else { return false };
    ["http", "https", "mailto"].iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::render;

    fn html(markdown: &str) -> String {
        render(markdown).to_string()
    }

    #[test]
    fn raw_html_is_shown_as_text() {
        for attack in
            ["<script>alert(1)</script>", "hello <img src=x onerror=alert(1)> there", "<!-- x -->\n\n<b>bold</b>"]
        {
            let out = html(attack);
            assert!(!out.contains("<script") && !out.contains("<img") && !out.contains("<b>"), "{out}");
            assert!(out.contains("&lt;"), "{out}");
        }
    }

    #[test]
    fn links_lead_only_to_the_web_and_to_mail() {
        let good = html("[a](https://x.example/?a=1&b=2) <mailto:ada@example.com> <ada@example.com>");
        assert!(
            good.contains(r#"<a href="https://x.example/?a=1&amp;b=2" rel="nofollow noopener noreferrer">a</a>"#),
            "{good}"
        );
        assert_eq!(good.matches("href=\"mailto:ada@example.com\"").count(), 2, "{good}");
        for attack in [
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html;base64,AAAA)",
            "[x](vbscript:x)",
            "[x](//evil.example)",
            "[x](java&#115;cript:alert(1))",
            "[x]\n\n[x]: javascript:alert(1)",
        ] {
            let out = html(attack);
            assert!(!out.contains("<a"), "{attack} became {out}");
            assert!(out.contains('x'), "the text stays: {out}");
        }
    }

    #[test]
    fn a_quote_in_an_address_cannot_leave_the_attribute() {
        let out = html(r#"[x](<https://a.example/"onmouseover="alert(1)>)"#);
        assert!(out.contains("&quot;onmouseover=&quot;"), "{out}");
    }

    #[test]
    fn an_image_becomes_its_description() {
        assert_eq!(html("![a chart](https://x.example/a.png)"), "<p><em>a chart</em></p>\n");
    }

    #[test]
    fn headings_begin_below_those_of_the_page_and_tables_have_no_inline_style() {
        let out = html("# Orders\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n");
        assert!(out.contains("<h3>Orders</h3>"), "{out}");
        assert!(out.contains("<td>1</td>") && !out.contains("style"), "{out}");
    }

    #[test]
    fn code_is_escaped() {
        assert!(html("```html\"onload=x\n<b>\n```").contains("&lt;b&gt;"));
    }
}
