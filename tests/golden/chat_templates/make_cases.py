"""Renders every template here with transformers and writes what it gave to cases.json.

By hand, never in a test: `python3 make_cases.py` with transformers 5.23 installed. A case is a template, the
variables it is rendered with, and `text`, or `error` if the template raised one of its own (null where it
failed otherwise). chatml_thinking.jinja and zephyr.jinja follow the shape of published templates; the
snippets of snippets.json each try one corner of Jinja as transformers sets it up.
"""

import json
import pathlib

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent

USER = [{"role": "user", "content": " Hi <b>\"x\"</b> & 'é' "}]
DIALOGUE = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4", "tool_calls": None},
    {"role": "user", "content": "Thanks"},
]
CALL = {"name": "add", "arguments": {"a": 1, "b": "two\nlines"}}
TOOL_CALLS = [
    {"role": "user", "content": "add"},
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}]}]
TOOLS = [{"type": "function", "function": {
    "name": "add", "description": "Adds <two> numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "number", "default": 1.0},
                       "b": {"type": "number", "enum": [1, 2.5, 1e20, 1e-7, None, True]}},
        "required": ["a"]}}}]


def case(name, template, messages, tools=None, add_generation_prompt=True, **kwargs):
    made = {"name": name, "template": template, "messages": messages, "tools": tools,
            "add_generation_prompt": add_generation_prompt, "kwargs": kwargs}
    try:
        made["text"] = _compile_jinja_template(template).render(
            messages=messages, tools=tools, documents=None, bos_token="<s>", eos_token="</s>",
            add_generation_prompt=add_generation_prompt, **kwargs)
    except Exception as error:  # whatever Python or Jinja says: the case must fail here too
        is_raised = type(error) is jinja2.exceptions.TemplateError
        made["error"] = str(error) if is_raised else None
    return made


def main():
    cases = []
    for name in ("chatml_thinking", "zephyr"):
        template = (HERE / f"{name}.jinja").read_text()
        for kind, messages in (("user", USER), ("dialogue", DIALOGUE), ("calls", TOOL_CALLS),
                               ("parts", PARTS)):
            for suffix, tools, prompt in (("", None, True), (", tools", TOOLS, True),
                                          (", no prompt", None, False)):
                cases.append(case(f"{name}: {kind}{suffix}", template, messages, tools, prompt))
        cases.append(case(f"{name}: kwargs", template, USER, enable_thinking=False))
    for name, template in json.loads((HERE / "snippets.json").read_text()).items():
        cases.append(case(name, template, USER))
        cases.append(case(f"{name}, tools", template, DIALOGUE, TOOLS))
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
