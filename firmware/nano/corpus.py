# SPDX-License-Identifier: MIT
"""Seeded grammar of small stories and questions about them.

A document is one of
  * a story (optionally opened by a request) with 0 to 5 lines of the form
    "Question: Where did Tom find the key? Answer: in the garden.";
  * a few plain facts ("Tom has a red kite. Mia is in the garden.") with such
    question lines;
  * question lines alone, about a small fixed set of general knowledge.

Stories and facts are held out by a hash of the key choice (hero, object,
place): one key in `HOLD_OUT` never occurs in training, in any plot.

    python3 corpus.py --seed 1 --count 3        # print three documents
"""
import argparse
import random
import zlib
from typing import Dict, Iterator, List, NamedTuple, Tuple

import lexicon as lx
import plots

HOLD_OUT = 16                  # one key in 16 belongs to the held-out part
KNOWLEDGE_SHARE, FACTS_SHARE = 0.1, 0.3
INVENTED = 0.2                 # share of invented names
QA = Tuple[str, str, str]      # (type, question, answer)


class Document(NamedTuple):
    """`text` without questions, and every question it can answer."""
    kind: str
    text: str
    questions: List[QA]


def is_held_out(hero: str, thing: str, place: str) -> bool:
    """The hold-out rule; a pure function of the key, not of any seed."""
    return zlib.crc32(f"{hero}|{thing}|{place}".encode()) % HOLD_OUT == 0


def article(phrase: str) -> str:
    """'orange kite' -> 'an orange kite'."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def upper_first(text: str) -> str:
    return text[0].upper() + text[1:]


def question_line(question: str, answer: str) -> str:
    return f"Question: {question} Answer: {answer}"


class Person(NamedTuple):
    name: str
    noun: str                  # "girl", "boy" or an animal
    he: str
    him: str
    his: str

    @property
    def is_animal(self) -> bool:
        return self.noun not in ("girl", "boy")


def make_person(rng: random.Random, name: str) -> Person:
    """Listed names have a fixed gender; invented ones are free."""
    listed = name in NAMES
    she = name in SHE_NAMES if listed else rng.random() < 0.5
    if name in lx.GIRLS or name in lx.BOYS or (not listed and rng.random() < 0.7):
        noun = "girl" if she else "boy"
    else:
        noun = rng.choice(lx.ANIMALS)
    return Person(name, noun, *(("she", "her", "her") if she else
                                ("he", "him", "his")))


SHE_NAMES = frozenset(lx.GIRLS + lx.SHE_ANIMALS)
NAMES = tuple(lx.GIRLS + lx.BOYS + lx.SHE_ANIMALS + lx.HE_ANIMALS)
OPEN_AIR = tuple(p for p in lx.PLACES
                 if any(word in p[1].split() for word in lx.OUTDOORS))


def pick_name(rng: random.Random) -> str:
    """A listed name, or (one in five) an invented one such as 'Flomin'."""
    if rng.random() >= INVENTED:
        return rng.choice(NAMES)
    syllables = [rng.choice(lx.ONSETS) + rng.choice(lx.VOWELS)
                 for _ in range(rng.randint(1, 2))]
    return ("".join(syllables) + rng.choice(lx.ENDINGS)).title()


def pick_key(rng: random.Random, held_out: bool, places=lx.PLACES,
             unfit=()) -> tuple:
    """(hero name, object, (preposition, place)) on the wanted side."""
    things = [o for o in lx.OBJECTS if o not in unfit]
    while True:
        key = pick_name(rng), rng.choice(things), rng.choice(places)
        if is_held_out(key[0], key[1], key[2][1]) == held_out:
            return key


def story_fields(rng: random.Random, plot: str, held_out: bool) -> Dict[str, str]:
    """All choices of one story, as the fields of the sentence templates."""
    places = OPEN_AIR if plot in ("storm", "seed", "race") else lx.PLACES
    name, thing, (prep, place) = pick_key(
        rng, held_out, places, lx.UNFIT.get(plot, ()))
    hero = make_person(rng, name)
    friend_name = pick_name(rng)
    while friend_name == name:
        friend_name = pick_name(rng)
    friend = make_person(rng, friend_name)
    colour, colour2 = rng.sample(lx.COLOURS, 2)
    prep2, place2 = rng.choice([p for p in lx.PLACES if p[1] != place])
    weather, lines = rng.choice(lx.WEATHER)
    time = rng.choice(lx.TIMES)
    hobby, hobbying = rng.choice(lx.HOBBIES)
    trait, trait2 = rng.sample(lx.TRAITS, 2)
    family = f"{hero.his} {rng.choice(lx.FAMILY)}"
    winner, loser = rng.sample((hero.name, friend.name), 2)
    flower = rng.choice(lx.FLOWERS)
    return {
        "N": name, "F": friend.name, "W": winner, "L": loser,
        "k": f"a {rng.choice(lx.SIZES)} {hero.noun}", "akind": article(hero.noun),
        "fk": f"a {rng.choice(lx.SIZES)} {friend.noun}",
        "he": hero.he, "him": hero.him, "his": hero.his,
        "himself": "herself" if hero.he == "she" else "himself",
        "He": hero.he.title(), "His": hero.his.title(),
        "fhe": friend.he, "fhim": friend.him, "fhis": friend.his,
        "o": thing, "c": colour, "co": f"{colour} {thing}",
        "aco": article(f"{colour} {thing}"),
        "c2": colour2, "flower": flower, "aflower": article(f"{colour2} {flower}"),
        "pl": place, "at": f"{prep} {place}", "at2": f"{prep2} {place2}",
        "weather": weather, "time": time,
        "weather_line": rng.choice(lines).format(time=time),
        "hobby": hobby, "hobbying": hobbying, "trait": trait, "trait2": trait2,
        "g2": family, "g": upper_first(family), "m": rng.choice(lx.MENDERS),
        "owner": rng.choice(lx.OWNERS), "food": rng.choice(lx.FOODS),
        "pet": rng.choice(lx.PETS), "hurt": rng.choice(lx.HURTS),
        "bad": rng.choice(lx.SAD), "good": rng.choice(lx.HAPPY),
        "fear": rng.choice(lx.SCARED), "wonder": rng.choice(lx.CURIOUS),
        "dread": rng.choice(lx.FEARS), "spot": rng.choice(plots.SHELTERS),
        "pour": rng.choice(plots.POURS), "animal": str(hero.is_animal),
    }


def tell(rng: random.Random, plot: str, fields: Dict[str, str]) -> Document:
    """Say the beats of one plot and collect the questions they answer."""
    text, questions = "", []
    beats = [plots.INTRO] + plots.PLOTS[plot]
    if rng.random() < 0.5 and plots.TRAIT not in beats:
        beats.insert(1, plots.TRAIT)
    for beat in beats:
        if rng.random() >= beat.chance:
            continue
        sentence = rng.choice(beat.templates).format_map(fields)
        glue = "" if not text else "\n" if beat.new else " "
        text += glue + upper_first(sentence)
        asks = list(beat.asks)
        if beat is plots.INTRO and fields["animal"] == "True":
            asks.append(plots.ANIMAL)
        questions += [(kind, rng.choice(variants).format_map(fields),
                       answer.format_map(fields))
                      for kind, variants, answer in asks]
    return Document(plot, text, questions)


def make_story(rng: random.Random, held_out: bool = False,
               plot: str = "") -> Document:
    """One story; a third of them open with a request for that story."""
    plot = plot or rng.choice(tuple(plots.PLOTS))
    fields = story_fields(rng, plot, held_out)
    story = tell(rng, plot, fields)
    if rng.random() < 0.35:
        request = rng.choice(plots.REQUESTS).format_map(fields)
        story = story._replace(text=f"{request}\n{story.text}")
    return story


FACT_FORMS = (
    (("{N} has {aco}.", "{N} carries {aco}.", "{N} owns {aco}."),
     (("what", "{aco}.", "What does {N} have?"),
      ("colour", "{c}.", "What colour is the {o}?"),
      ("who", "{N}.", "Who has the {o}?"))),
    (("{N} is {at}.", "{N} waits {at}.", "{N} stands {at}."),
     (("where", "{at}.", "Where is {N}?"), ("who", "{N}.", "Who is {at}?"))),
    (("{N} likes {food}.", "{N} eats {food}."),
     (("what", "{food}.", "What does {N} like?"),
      ("who", "{N}.", "Who likes {food}?"))),
    (("{N} is {feel}.", "{N} feels {feel} today."),
     (("feel", "{feel}.", "How does {N} feel?"),
      ("who", "{N}.", "Who is {feel}?"))),
)


def make_facts(rng: random.Random, held_out: bool = False) -> Document:
    """Two to four people with one or two facts each, all values distinct."""
    count = rng.randint(2, 4)
    names = [pick_name(rng) for _ in range(count)]
    things = rng.sample(lx.OBJECTS, count)
    places = rng.sample(lx.PLACES, count)
    names[0], things[0], places[0] = pick_key(rng, held_out)
    if any(len(set(column)) < count for column in (names, things, places)) or any(
            is_held_out(n, t, p[1]) != held_out and (not held_out or i == 0)
            for i, (n, t, p) in enumerate(zip(names, things, places))):
        return make_facts(rng, held_out)
    foods, colours = rng.sample(lx.FOODS, count), rng.sample(lx.COLOURS, count)
    feels = rng.sample(lx.SAD + lx.HAPPY + lx.SCARED, count)
    said = []
    for i in range(count):
        fields = {"N": names[i], "o": things[i], "c": colours[i],
                  "aco": article(f"{colours[i]} {things[i]}"),
                  "at": " ".join(places[i]), "food": foods[i], "feel": feels[i]}
        for form, asks in rng.sample(FACT_FORMS, rng.randint(1, 2)):
            said.append((rng.choice(form).format_map(fields),
                         [(kind, q.format_map(fields), a.format_map(fields))
                          for kind, a, q in asks]))
    rng.shuffle(said)
    return Document("facts", " ".join(s for s, _ in said),
                    [qa for _, asks in said for qa in asks])


def knowledge() -> List[QA]:
    """The fixed questions about uses, sounds, homes, colours and the model."""
    rows = [("use", f"What do you do with {article(o)}?", f"{a}.")
            for o, a in lx.USES.items() if o != "crown"]
    rows += [("sound", f"What does {article(o)} say?", f"{a}.")
             for o, a in lx.SOUNDS.items()]
    rows += [("home", f"Where does {article(o)} live?", f"{a}.")
             for o, a in lx.HOMES.items()]
    rows += [("colour", f"What colour is {o}?", f"{a}.")
             for o, a in lx.THING_COLOURS.items()]
    rows += [("about", q, f"{a}.") for q, a in lx.ABOUT]
    return rows


KNOWLEDGE = knowledge()


def make_document(rng: random.Random, held_out: bool = False,
                  facts_share: float = FACTS_SHARE,
                  story_questions=(0, 2, 3, 4, 5)) -> str:
    """One training (or held-out) document as plain text; the number of questions
    after a story is drawn from `story_questions`."""
    choice = rng.random()
    if choice < KNOWLEDGE_SHARE:
        rows = rng.sample(KNOWLEDGE, rng.randint(1, 3))
        return "\n".join(question_line(q, a) for _, q, a in rows)
    if choice < KNOWLEDGE_SHARE + facts_share:
        document, count = make_facts(rng, held_out), max(
            rng.randint(2, 5), story_questions[-1])
    else:
        document, count = make_story(rng, held_out), rng.choice(story_questions)
    asked = rng.sample(document.questions, min(count, len(document.questions)))
    return "\n".join([document.text] + [question_line(q, a) for _, q, a in asked])


def lexicon_lines() -> List[str]:
    """The words of the lexicon in the places where stories use them."""
    words = list(NAMES) + lx.OBJECTS + lx.COLOURS + list(lx.FOODS) + lx.ANIMALS
    words += lx.SAD + lx.HAPPY + lx.SCARED + lx.CURIOUS + lx.PETS + lx.OWNERS
    words += lx.FAMILY + lx.FLOWERS + list(lx.MENDERS)
    words += [p[1].split()[-1] for p in lx.PLACES]
    return [" ".join(words)]


def stream(seed: int, held_out: bool = False) -> Iterator[str]:
    """Endless documents; the same seed gives the same stream."""
    rng = random.Random(f"{seed}/{'held-out' if held_out else 'train'}")
    while True:
        yield make_document(rng, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description="print documents of the grammar")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--held-out", action="store_true")
    args = parser.parse_args()
    documents = stream(args.seed, args.held_out)
    for _ in range(args.count):
        print(next(documents), end="\n\n")


if __name__ == "__main__":
    main()
