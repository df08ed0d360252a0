"""Conversations: the other grammars' tasks as requests, small talk, and a few plain facts."""

import random

from grammars import arithmetic, stories
from grammars.document import Document, is_held_out, pick
from grammars.lookups import lookup_task
from grammars.programs import program_task
from grammars.records import json_task
from grammars.translations import translation_task
from grammars.words import NAMES

FACTS = (
    ("sound", "a cow", "moo"), ("sound", "a dog", "woof"), ("sound", "a cat", "meow"),
    ("sound", "a duck", "quack"), ("sound", "a sheep", "baa"), ("sound", "an owl", "hoo"),
    ("colour", "the sky", "blue"), ("colour", "grass", "green"), ("colour", "snow", "white"),
    ("colour", "a lemon", "yellow"), ("colour", "coal", "black"), ("colour", "a tomato", "red"),
    ("capital", "France", "Paris"), ("capital", "Italy", "Rome"), ("capital", "Norway", "Oslo"),
    ("capital", "Germany", "Berlin"), ("capital", "England", "London"), ("capital", "Spain", "Madrid"),
    ("capital", "Austria", "Vienna"), ("capital", "Portugal", "Lisbon"), ("capital", "Ireland", "Dublin"),
    ("opposite", "hot", "cold"), ("opposite", "big", "small"), ("opposite", "fast", "slow"),
    ("opposite", "day", "night"), ("opposite", "happy", "sad"), ("opposite", "old", "young"),
)

PHRASINGS = {
    "sound": (("What does {0} say?", "What sound does {0} make?", "Which sound does {0} make?"),
              "It says \"{1}\"."),
    "colour": (("What colour is {0}?", "Which colour is {0}?", "Tell me the colour of {0}."),
               "The colour of {0} is {1}."),
    "capital": (("What is the capital of {0}?", "Which city is the capital of {0}?", "Name the capital of {0}."),
                "The capital of {0} is {1}."),
    "opposite": (("What is the opposite of {0}?", "Tell me the opposite of {0}.", "Name the opposite of {0}."),
                 "The opposite of {0} is {1}."),
}

TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi, how are you?", "I am fine, thank you. What can I do for you?"),
    ("Who are you?", "I am a very small language model, made to show how mirrorsd works. I can tell "
     "stories, do arithmetic, write JSON and run little programs in my head."),
    ("What can you do?", "I can tell stories, do arithmetic, write JSON and say what little programs print."),
    ("Thank you!", "You are welcome!"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("Goodbye!", "Goodbye! Have a nice day."),
)

SYSTEMS = ("", "", "", "You are a helpful assistant.", "Be kind and brief.")


def _fact(rng):
    relation, subject, answer = rng.choice(FACTS)
    questions, reply = PHRASINGS[relation]
    question = rng.choice(questions).format(subject)
    return question, question, reply.format(subject, answer)


def _story(rng):
    theme, slots = stories.story_slots(rng)
    opening, rest = stories.tell(rng, theme, slots)
    article = "an" if slots["animal"][0] in "aeiou" else "a"
    request = pick(rng, ("Tell me a story about {0} {1} named {2} and a {3}.",
                         "Write a story about {0} {1} called {2} and a {3}."))
    request = request.format(article, slots["animal"], slots["name"], theme)
    return f"story {theme} {slots['name']} {slots['animal']}", request, opening + rest


def _sum(rng):
    key, task, answer = pick(rng, arithmetic.TASKS)(rng)
    return "arithmetic " + key, task, answer


def _program(rng):
    source, output = program_task(rng)
    return source, f"What does this program print?\n{source.rstrip()}", output


def _talk(rng):
    question, answer = pick(rng, TALK)
    return "", question, answer


def _name(rng):
    name = rng.choice(NAMES)
    return "", f"Hello, my name is {name}.", f"Hello {name}! How can I help you?"


TASKS = (_story, _fact, _sum, json_task, _program, lookup_task, translation_task)


def chat(rng: random.Random, held_out: bool, long: bool) -> Document:
    """One conversation of tasks of one split."""
    wanted = rng.randint(6, 12) if long else pick(rng, (1, 2, 3))
    turns, keys = [], []
    while len(keys) < wanted:
        key, question, answer = rng.choice(TASKS)(rng)
        if is_held_out(key) != held_out:
            continue
        if rng.random() < 0.2:
            turns += pick(rng, (_talk, _name))(rng)[1:]
        turns += (question, answer)
        keys.append(key)
    if rng.random() < 0.15:
        turns += ["Thank you!", "You are welcome!"]
    return Document("chat", keys[0], tuple(turns), True, pick(rng, SYSTEMS))
