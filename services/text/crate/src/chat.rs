//! A chat template as transformers renders it: Jinja with trim_blocks, lstrip_blocks and loop
//! controls, Python's methods on strings and dicts, json.dumps for tojson, raise_exception and
//! strftime_now. Known to differ: tuples print as lists, and strings have no % operator.
//!
//! Messages and tools come from requests and can do no harm. A template is part of the model that the
//! operator chose: a wrong one is an error and an endless one is stopped, but one that is made to eat
//! memory can.

use std::fmt;
use std::io;

use minijinja::value::{from_args, Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value as Json;

use crate::abi::{self, Failure};
use crate::python::{str_of, write_json, JsonStyle};
use crate::strftime::format_utc;

/// Instructions of one render: ten times what 4,096 messages need, and about half a second.
const MAX_FUEL: u64 = 2_000_000;
/// What the tokenizer takes.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// The longest published templates have about 30 KB.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// The parser's recursion over a chain of operators has no limit of its own; this holds the deepest
/// chain that MAX_SOURCE_BYTES can spell. Only pages that are touched cost memory.
const COMPILE_STACK_BYTES: usize = 512 << 20;
const NAME: &str = "chat_template";
const NOW: &str = "__mirrorsd_now_unix_s";

pub struct ChatTemplate {
    environment: Environment<'static>,
}

/// What raise_exception said, kept apart from minijinja's own wording.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: Value) -> Result<Value, Error> {
    let message = str_of(&message);
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let now = state.lookup(NOW).and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
    Ok(format_utc(now, format))
}

fn pair(value: Value) -> Result<(String, String), Error> {
    let parts: Vec<String> = value.try_iter()?.map(|part| str_of(&part)).collect();
    match <[String; 2]>::try_from(parts) {
        Ok([item, key]) => Ok((item, key)),
        Err(_) => Err(Error::new(ErrorKind::InvalidOperation, "separators must be two strings")),
    }
}

/// tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False), without HTML escapes.
fn tojson(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let given = |value: Option<Value>| value.filter(|v| !v.is_none() && !v.is_undefined());
    let indent = given(kwargs.get("indent")?);
    let separators = given(kwargs.get("separators")?);
    let is_true = |value: Option<Value>| value.is_some_and(|v| v.is_true());
    let ensure_ascii = is_true(kwargs.get("ensure_ascii")?);
    let sort_keys = is_true(kwargs.get("sort_keys")?);
    kwargs.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(text) if text.kind() == ValueKind::String => Some(str_of(&text)),
        Some(count) => Some(" ".repeat(i64::try_from(count)?.clamp(0, 64) as usize)),
    };
    let (item_separator, key_separator) = match separators {
        Some(separators) => pair(separators)?,
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let style = JsonStyle { indent, item_separator, key_separator, ensure_ascii, sort_keys };
    let mut out = String::new();
    write_json(&value, &style, &mut out)?;
    Ok(out)
}

/// str.strip of whatever it is given, as Jinja2's trim.
fn trim(value: Value, characters: Option<String>) -> String {
    let text = str_of(&value);
    match characters {
        None => text.trim().to_string(),
        Some(characters) => text.trim_matches(|c| characters.contains(c)).to_string(),
    }
}

/// Jinja2 can loop over strings, dicts and undefined, but not over none and numbers. The same hold for
/// its `sequence` test, which asks for a length and an index.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::String | ValueKind::Undefined
    )
}

/// Methods of Python's str that minijinja-contrib lacks; everything else is left to it.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(text.strip_prefix(prefix).unwrap_or(text).into());
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(text.strip_suffix(suffix).unwrap_or(text).into());
            }
            "partition" => {
                let (separator,): (&str,) = from_args(args)?;
                let (before, after) = text.split_once(separator).unwrap_or((text, ""));
                let separator = if before.len() < text.len() { separator } else { "" };
                return Ok(Value::from_serialize([before, separator, after]));
            }
            "rsplit" if !args.is_empty() => {
                let (separator, limit): (&str, Option<usize>) = from_args(args)?;
                let mut parts: Vec<&str> =
                    text.rsplitn(limit.map_or(usize::MAX, |n| n.saturating_add(1)), separator).collect();
                parts.reverse();
                return Ok(Value::from_serialize(&parts));
            }
            _ => {}
        }
    }
    unknown_method_callback(state, value, name, args)
}

/// transformers' own {% generation %} tag marks what the assistant said and prints nothing: here it
/// becomes a block that is always entered, so that whitespace control keeps its effect.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (open, close) = (start + 2, start + length);
        let tag = rest.get(open..close).unwrap_or("");
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&rest[..open.min(close)]);
        match replacement {
            Some(replacement) => out.push_str(&tag.replace(word, replacement)),
            None => out.push_str(tag),
        }
        out.push_str("%}");
        rest = &rest[close + 2..];
    }
    out.push_str(rest);
    out
}

fn describe(error: &Error) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(Raised(message)) = current.downcast_ref::<Raised>() {
            return Failure::new(abi::RAISED, message.clone());
        }
        source = current.source();
    }
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    Failure::invalid(format!("{}{detail}{line}", error.kind()))
}

fn parse(json: &str) -> Result<Json, String> {
    serde_json::from_str(json).map_err(|e| format!("not JSON: {e}"))
}

fn parse_messages(json: &str) -> Result<Json, Failure> {
    let wrong = |message: String| Failure::new(abi::INVALID_MESSAGES, message);
    let messages = parse(json).map_err(wrong)?;
    let Some(list) = messages.as_array() else {
        return Err(wrong("must be a list of messages".into()));
    };
    if list.is_empty() {
        return Err(wrong("must hold at least one message".into()));
    }
    for (index, message) in list.iter().enumerate() {
        if !message.is_object() {
            return Err(wrong(format!("message {index} must be an object with role and content")));
        }
        if !message.get("role").is_some_and(Json::is_string) {
            return Err(wrong(format!("message {index} has no role, or one that is not a string")));
        }
    }
    Ok(messages)
}

fn parse_tools(json: &str) -> Result<Json, Failure> {
    let wrong = |message: String| Failure::new(abi::INVALID_TOOLS, message);
    if json.is_empty() {
        return Ok(Json::Null);
    }
    let tools = parse(json).map_err(wrong)?;
    if !tools.is_null() && !tools.is_array() {
        return Err(wrong("must be a list of tools".into()));
    }
    Ok(tools)
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("more than {MAX_OUTPUT_BYTES} bytes of text")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ChatTemplate {
    pub fn compile(source: &str) -> Result<Self, Failure> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Failure::invalid(format!(
                "the template has {} bytes (limit: {MAX_SOURCE_BYTES})",
                source.len()
            )));
        }
        let source = without_generation_tags(source);
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || Self::compile_here(source))
                .map_err(|e| Failure::invalid(format!("no thread to compile it: {e}")))?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn compile_here(source: String) -> Result<Self, Failure> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(MAX_FUEL));
        environment.set_unknown_method_callback(method);
        environment.set_formatter(|out, _, value| out.write_str(&str_of(value)).map_err(Error::from));
        environment.add_filter("tojson", tojson);
        environment.add_filter("trim", trim);
        environment.add_test("iterable", is_iterable);
        environment.add_test("sequence", is_iterable);
        environment.add_filter("string", |value: Value| str_of(&value));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, source).map_err(|e| describe(&e))?;
        Ok(ChatTemplate { environment })
    }

    pub fn render(
        &self,
        messages: &str,
        tools: &str,
        variables: &str,
        now_unix_s: i64,
    ) -> Result<Vec<u8>, Failure> {
        let mut context = match parse(variables).map_err(Failure::invalid)? {
            Json::Object(variables) => variables,
            _ => return Err(Failure::invalid("the variables must be a JSON object")),
        };
        context.insert("messages".into(), parse_messages(messages)?);
        context.insert("tools".into(), parse_tools(tools)?);
        context.entry("documents").or_insert(Json::Null);
        context.insert(NOW.into(), now_unix_s.into());
        let template = self.environment.get_template(NAME).map_err(|e| describe(&e))?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(Value::from_serialize(&context), &mut out).map_err(|e| describe(&e))?;
        Ok(out.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, variables: &str) -> Result<String, Failure> {
        let bytes = ChatTemplate::compile(source)?.render(
            r#"[{"role": "user", "content": " <b> "}]"#,
            "",
            variables,
            0,
        )?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn json_is_pythons() {
        let variables = r#"{"x": {"b": [1, 2.0, true, null, "<é>"], "a": {}}}"#;
        assert_eq!(
            render("{{ x | tojson }}", variables).unwrap(),
            r#"{"b": [1, 2.0, true, null, "<é>"], "a": {}}"#
        );
        assert_eq!(
            render("{{ x.b | tojson(ensure_ascii=true, separators=(',', ':')) }}", variables).unwrap(),
            r#"[1,2.0,true,null,"<\u00e9>"]"#
        );
        assert_eq!(
            render("{{ x | tojson(indent=2, sort_keys=true) }}", variables).unwrap(),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2.0,\n    true,\n    null,\n    \"<é>\"\n  ]\n}"
        );
    }

    #[test]
    fn values_print_as_in_python() {
        assert_eq!(
            render("{{ none }}|{{ true }}|{{ missing }}|{{ messages }}|{{ 1.5 | string }}", "{}").unwrap(),
            "None|True||[{'role': 'user', 'content': ' <b> '}]|1.5"
        );
    }

    #[test]
    fn generation_tags_print_nothing() {
        assert_eq!(
            render(
                "a\n{% generation %}\nb {%- generation -%} c {%- endgeneration %}\n{% endgeneration %}d",
                "{}"
            )
            .unwrap(),
            "a\nbcd"
        );
    }

    #[test]
    fn a_raised_message_is_told_alone() {
        let failure =
            render("{% macro m() %}{{ raise_exception('no ' ~ 'way') }}{% endmacro %}{{ m() }}", "{}")
                .unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (abi::RAISED, "no way"));
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let source =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}";
        let failure = render(source, "{}").unwrap_err();
        assert_eq!(failure.code, abi::INVALID);
        assert!(failure.message.contains("fuel"), "{}", failure.message);
    }

    #[test]
    fn a_long_chain_of_operators_does_not_run_out_of_stack() {
        let deepest = format!("{{{{ {}1 }}}}", "-".repeat(MAX_SOURCE_BYTES - 7));
        assert_eq!(render(&deepest, "{}").unwrap().trim_start_matches('-'), "1");
        let failure = render(&"-".repeat(MAX_SOURCE_BYTES + 1), "{}").unwrap_err();
        assert!(failure.message.contains("262145 bytes"), "{}", failure.message);
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        let build =
            "{% set ns = namespace(x=[]) %}{% for i in range(600) %}{% set ns.x = [ns.x] %}{% endfor %}";
        let failure = render(&format!("{build}{{{{ ns.x | tojson }}}}"), "{}").unwrap_err();
        assert!(failure.message.contains("nested too deeply"), "{}", failure.message);
        assert!(render(&format!("{build}{{{{ ns.x }}}}"), "{}").unwrap().contains("[...]"));
    }

    #[test]
    fn date_and_loop_controls() {
        let source = "{{ strftime_now('%d %b %Y') }}\
            {% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}";
        assert_eq!(render(source, "{}").unwrap(), "01 Jan 19701");
    }
}
