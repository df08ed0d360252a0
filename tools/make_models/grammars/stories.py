"""Short stories: a hero, a wish named in the first sentence, a trouble, a way out, an end.

The theme in the opening fixes the plot, so that a continuation follows from its prompt; each step
has several wordings.
"""

import random

from grammars.document import Document, pick
from grammars.words import ANIMALS, COLOURS, NAMES, pronouns

PLACES = ("in a quiet forest", "near a small lake", "on a green hill", "in a little village",
          "by the sea", "at the edge of a big field")

OPENINGS = (
    "Once upon a time, there was a {mood} {animal} named {name}. {name} lived {place}. {wish}",
    "There once was a {mood} {animal} called {name} who lived {place}. {wish}",
    "{name} was a {mood} {animal}. {He} lived {place} with {his} friend {friend}. {wish}",
)

MOODS = ("little", "kind", "brave", "clever", "shy", "happy")

# theme: (wishes, beginnings, troubles, ways out, ends); {colour} stays the same within a story.
PLOTS = {
    "kite": (
        ("{name} loved to fly {his} {colour} kite.", "More than anything, {name} liked {his} {colour} kite."),
        ("One windy morning, {name} ran outside with the kite. It flew higher and higher.",
         "One day the wind was strong, and the {colour} kite danced in the sky."),
        ("Suddenly the string broke, and the kite got stuck in a tall tree.",
         "Then the wind blew too hard, and the kite flew into a tall tree."),
        ("{friend} the {other} saw it and said, \"Do not worry. I can climb.\" {friend} climbed up "
             "and brought the kite down.",
         "\"Do not cry,\" said {friend} the {other}. {friend} climbed the tree and brought the kite back."),
        ("{name} was very happy and let {friend} fly the kite too.",
         "{name} thanked {friend}, and they flew the kite together until evening."),
    ),
    "cake": (
        ("{name} wanted to bake a cake for {friend}.", "{name} liked to bake, and soon it was the "
             "birthday of {friend}."),
        ("One day {name} took flour, eggs and honey and began to bake a big cake.",
         "Early in the morning {name} went to the kitchen to bake the best cake of all."),
        ("But when {he} looked into the jar, there was no honey left.",
         "But the jar of honey was empty, and a cake without honey is not sweet."),
        ("{name} asked the bees for help. \"Bring us flowers,\" said the bees, \"and we will give "
             "you honey.\" So {name} brought them {colour} flowers.",
         "So {name} went to the bees and gave them {colour} flowers, and the bees gave {him} a cup "
             "of honey."),
        ("The cake was sweet and soft, and {friend} the {other} ate three pieces.",
         "That evening {name} and {friend} the {other} ate the whole cake and laughed."),
    ),
    "boat": (
        ("{name} dreamed of a {colour} boat.", "{name} had always wanted to sail in a {colour} boat."),
        ("One day {name} found some old wood and built a small boat. {He} painted it {colour}.",
         "One summer {name} built a small boat from wood and painted it {colour}."),
        ("But out on the water a storm came, and the waves grew big.",
         "But the wind became strong, and the little boat began to fill with water."),
        ("{friend} the {other} saw the boat and lit a lamp on the shore. {name} followed the light "
             "back home.",
         "On the shore {friend} the {other} held up a lamp. {name} saw the light and sailed towards it."),
        ("From that day on, {name} and {friend} always sailed together.",
         "\"Next time we will sail together,\" said {friend}. And so they did."),
    ),
    "drum": (
        ("{name} played a {colour} drum all day long.", "{name} had a {colour} drum and played it "
             "every day."),
        ("Boom, boom, boom went the drum, from morning until night.",
         "Every morning {name} sat in front of the house and played: boom, boom, boom."),
        ("But the drum was so loud that nobody could sleep.",
         "The other animals were tired, because the drum was much too loud."),
        ("{friend} the {other} had an idea. \"Play softly in the evening,\" said {friend}, \"and we "
             "will sing with you.\"",
         "\"Let us make music together,\" said {friend} the {other}. \"You play softly, and I will sing.\""),
        ("So {name} played softly, and all the animals sang a song before they went to bed.",
         "Soon everyone loved the music of {name}, and at night they all slept well."),
    ),
    "garden": (
        ("{name} wished for a garden full of {colour} flowers.", "{name} wanted to grow {colour} flowers."),
        ("In spring {name} put the seeds into the ground and waited.",
         "One morning {name} planted ten small seeds and gave them water."),
        ("But no rain fell for many days, and the ground became dry and hard.",
         "But the sun was hot, and the little plants became weak and dry."),
        ("{friend} the {other} came with a bucket. Every day they carried water from the river to "
             "the garden.",
         "So {name} and {friend} the {other} carried water from the river, one bucket after another."),
        ("At last the {colour} flowers opened, and the garden was the most beautiful of all.",
         "When summer came, {colour} flowers stood everywhere, and {name} gave the first one to {friend}."),
    ),
    "snow": (
        ("{name} could not wait for the first snow.", "{name} loved the winter and waited for snow."),
        ("One morning everything was white. {name} put on a {colour} hat and ran outside.",
         "At last the snow came, and {name} ran out in {his} {colour} hat to build a snowman."),
        ("{He} played so long that {he} lost the way home, and it was getting dark.",
         "But the snow fell so thick that {name} could not find the way home."),
        ("Then {he} saw footprints. They belonged to {friend} the {other}, who had come to look for {him}.",
         "\"Here I am!\" called {friend} the {other}, who had seen the {colour} hat in the snow."),
        ("They walked home together and drank hot tea by the fire.",
         "At home they sat by the warm fire, and {name} fell asleep."),
    ),
    "star": (
        ("{name} wanted to catch a star.", "Every night {name} looked up at the stars and wished to "
             "hold one."),
        ("One night {name} climbed the highest hill and reached for the sky.",
         "One clear night {name} took a {colour} net and climbed the highest hill."),
        ("But the stars were too far away, and {name} became sad.",
         "But even from the top of the hill, the stars were much too far away."),
        ("\"Look into the water,\" said {friend} the {other}. In the lake below them shone a hundred stars.",
         "{friend} the {other} took {him} to the lake. There, in the water, were all the stars of the sky."),
        ("{name} smiled. Now {he} could be close to the stars every night.",
         "They sat by the lake until morning and counted the stars in the water."),
    ),
    "map": (
        ("{name} found an old map with a {colour} cross.", "In an old box {name} found a map with a "
             "{colour} cross on it."),
        ("\"This must be a treasure,\" said {name}. {He} packed some bread and followed the map.",
         "{name} asked {friend} the {other} to come along, and they followed the map."),
        ("The way went over a river, but the bridge was broken.",
         "Soon they came to a wide river, and there was no bridge."),
        ("{friend} the {other} pulled a long tree over the water, and they walked across it.",
         "A friendly turtle carried them over the water on its back."),
        ("Under the cross they found a box full of nuts, and they shared them with everyone.",
         "At the cross they dug and found a box. Inside was a letter: \"The best treasure is a good "
             "friend.\""),
    ),
    "ball": (
        ("{name} had a {colour} ball.", "The best toy of {name} was a {colour} ball."),
        ("One day {name} and {friend} the {other} played with the ball near the river.",
         "One sunny day {name} kicked the ball as hard as {he} could."),
        ("The ball rolled down the hill and fell into the river.",
         "The ball flew over the fence and fell right into the water."),
        ("{friend} jumped into the water, swam after the ball and pushed it back to the shore.",
         "{friend} took a long stick and pulled the ball out of the water."),
        ("\"Thank you,\" said {name}. \"You are a true friend.\"",
         "{name} hugged {friend}, and they played until the sun went down."),
    ),
    "race": (
        ("{name} wanted to win the big race.", "{name} trained every day for the big race."),
        ("On the day of the race, all the animals came. {friend} the {other} was the fastest of them.",
         "When the race began, {name} ran as fast as the wind, and {friend} the {other} ran beside {him}."),
        ("Near the end, {friend} fell over a stone and hurt a leg.",
         "But just before the end, {friend} fell down and could not get up."),
        ("{name} could have won, but {he} stopped and helped {friend} to stand up.",
         "{name} turned around, took {friend} by the hand, and they walked on together."),
        ("They crossed the line together, and both of them got a {colour} ribbon.",
         "Everybody cheered, and both friends won the prize."),
    ),
}

MORALS = (
    "And they lived happily ever after.",
    "From then on, they were best friends.",
    "The end.",
)


def story_slots(rng: random.Random) -> tuple[str, dict[str, str]]:
    """Returns a theme and the slots of one story."""
    name, friend = rng.sample(NAMES, 2)
    animal, other = rng.sample(ANIMALS, 2)
    slots = {"name": name, "friend": friend, "animal": animal, "other": other,
             "colour": rng.choice(COLOURS), "place": pick(rng, PLACES), "mood": pick(rng, MOODS)}
    return rng.choice(tuple(PLOTS)), slots | pronouns(name)


def tell(rng: random.Random, theme: str, slots: dict[str, str]) -> tuple[str, str]:
    """Returns the opening and the rest of a story."""
    wishes, *steps = PLOTS[theme]
    wish = pick(rng, wishes).format(**slots)
    opening = pick(rng, OPENINGS).format(wish=wish, **slots)
    sentences = [pick(rng, step).format(**slots) for step in steps]
    return opening, " " + " ".join(sentences + [pick(rng, MORALS)])


def story(rng: random.Random) -> Document:
    theme, slots = story_slots(rng)
    key = f"story {theme} {slots['name']} {slots['animal']}"
    return Document("story", key, tell(rng, theme, slots))
