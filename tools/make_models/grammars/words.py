"""Word lists that the grammars share."""

GIRLS = ("Mia", "Lily", "Anna", "Ella", "Rosa", "Nora", "Zoe", "Ruby", "Ivy", "Clara", "Sara", "Lena")
BOYS = ("Ben", "Tom", "Max", "Sam", "Leo", "Finn", "Jack", "Oscar", "Hugo", "Paul", "Emil", "Nico")
NAMES = GIRLS + BOYS
ANIMALS = ("fox", "bear", "rabbit", "cat", "dog", "mouse", "owl", "duck", "frog", "hedgehog", "squirrel", "otter")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "purple")
CITIES = ("Paris", "Rome", "Oslo", "Berlin", "London", "Madrid", "Vienna", "Lisbon", "Prague", "Dublin")
FOODS = ("apples", "bread", "cheese", "soup", "cake", "rice", "pears", "honey", "beans", "nuts", "plums", "corn")
THINGS = ("books", "shells", "stones", "coins", "cards", "balls", "pencils", "stamps", "apples", "cups")
JOBS = ("baker", "teacher", "doctor", "farmer", "painter", "sailor", "gardener", "writer")
HOBBIES = ("music", "chess", "swimming", "reading", "drawing", "football", "cooking", "dancing")
TREASURES = ("kite", "boat", "drum", "map", "ball", "hat", "box", "lamp", "net", "cup")
PLACES = ("forest", "village", "garden", "river", "field", "house", "kitchen", "lake")
WEATHER = ("sunny", "rainy", "cloudy", "windy", "snowy", "foggy")


def pronouns(name: str) -> dict[str, str]:
    """Slots for sentences about `name`."""
    if name in GIRLS:
        return {"he": "she", "He": "She", "his": "her", "him": "her"}
    return {"he": "he", "He": "He", "his": "his", "him": "him"}
