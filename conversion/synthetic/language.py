"""Captions of a procedural scene, whose nouns can be distinguished only by the words around them.

Two things with the same noun are distinguished by attribute (colour, pattern, size), place, motion or relation ("the
other ball"), whichever is true and unique in the video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conversion.synthetic.scene import Scene, Thing


@dataclass(frozen=True)
class Mention:
    """A noun of a caption that means a thing of the scene."""

    start: int
    end: int
    thing: int


@dataclass(frozen=True)
class Caption:
    """One actor's narrative: text, its nouns that mean things of the scene, and all its nouns."""

    actor_name: str
    text: str
    mentions: tuple[Mention, ...]
    nouns: tuple[tuple[int, int], ...]


_MOVES = {
    "left": ("moves to the [left]", "slides to the [left]", "drifts to the [left]"),
    "right": ("moves to the [right]", "slides to the [right]", "drifts to the [right]"),
    "up": ("moves up", "floats upwards", "rises"),
    "down": ("moves down", "sinks", "goes down"),
    "still": ("stays still", "does not move", "rests in its place"),
}
_WHICH = {
    "left": "moving to the left",
    "right": "moving to the right",
    "up": "moving up",
    "down": "moving down",
    "still": "standing still",
}
_LINKS = ("while", "and", "as")
_SEES = ("past", "near", "in sight of")


def describe(
    thing: int, scene: Scene, visible: np.ndarray, rng: np.random.Generator, mentioned: set[int]
) -> str | None:
    """A phrase that is true only of this thing among those with its noun, with the noun as "{}"; None if there is none.

    Args:
        thing: index into scene.things.
        visible: bool [K, T].
        mentioned: things that this narrative has already mentioned (for "the other ...").
    """
    things = scene.things
    me = things[thing]
    twins = [i for i, other in enumerate(things) if other.noun == me.noun and i != thing]
    others = [things[i] for i in twins]
    options: dict[str, list[str]] = {"colour": [], "pattern": [], "size": [], "motion": [], "place": [], "relation": []}
    if all(other.colour != me.colour for other in others):
        options["colour"].append(f"{{article}} {me.colour} {{}}")
    if twins and all(other.pattern != me.pattern for other in others):
        options["pattern"].append(f"{{article}} {me.pattern} {{}}")
    if twins and all(other.big != me.big for other in others):
        options["size"].append("{article} " + ("big" if me.big else "small") + " {}")
    if twins and all(other.motion != me.motion for other in others):
        options["motion"].append(f"{{article}} {{}} {_WHICH[me.motion]}")
    if twins:
        options["place"] += _by_place(thing, twins, scene, visible)
    if len(twins) == 1 and twins[0] in mentioned:
        options["relation"].append("the other {}")
    if not twins:
        options["plain"] = ["{article} {}"]
    weights = {"plain": 1.0, **dict(scene.settings.cues)}
    possible = [cue for cue, phrases in options.items() if phrases and weights.get(cue, 0) > 0]
    if not possible:
        return None
    shares = np.array([weights[cue] for cue in possible])
    cue = possible[int(rng.choice(len(possible), p=shares / shares.sum()))]
    phrase = str(rng.choice(options[cue]))
    if thing in mentioned or rng.random() < 0.5:
        return phrase.replace("{article}", "the")
    following = phrase.split(" ", 1)[1].replace("{}", me.noun)
    return phrase.replace("{article}", "an" if following[0] in "aeiou" else "a")


def _by_place(thing: int, twins: list[int], scene: Scene, visible: np.ndarray) -> list[str]:
    """Phrases of place that are true, by a clear margin, in every frame that shows both this thing and a twin."""
    places = {"on the left": (0, -1), "on the right": (0, 1), "at the top": (1, -1), "at the bottom": (1, 1)}
    phrases = []
    for words, (axis, sign) in places.items():
        margin = 0.18 * (scene.settings.width, scene.settings.height)[axis]
        clear = []
        for twin in twins:
            both = visible[thing] & visible[twin]
            gap = sign * (scene.things[thing].centre[:, axis] - scene.things[twin].centre[:, axis])
            clear.append(bool(both.any()) and bool((gap[both] > margin).all()))
        if all(clear):
            phrases.append(f"{{article}} {{}} {words}")
    return phrases


def actor_name(thing: int, scene: Scene) -> str:
    """The actor's name as annotators write it: "Ball", or "Ball one", "Ball two" among several."""
    noun = scene.things[thing].noun
    same = [i for i, other in enumerate(scene.things) if other.noun == noun]
    if len(same) == 1:
        return noun.capitalize()
    return f"{noun.capitalize()} {('one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight')[same.index(thing)]}"


class _Text:
    """Text under construction, with the positions of its nouns."""

    def __init__(self) -> None:
        self.text = ""
        self.mentions: list[Mention] = []
        self.nouns: list[tuple[int, int]] = []

    def add(self, words: str) -> None:
        """Append words; [brackets] mark nouns that do not mean a thing of the scene."""
        while "[" in words:
            before, rest = words.split("[", 1)
            noun, words = rest.split("]", 1)
            self.text += before
            self.nouns.append((len(self.text), len(self.text) + len(noun)))
            self.text += noun
        self.text += words

    def add_mention(self, phrase: str, noun: str, thing: int) -> None:
        before, after = phrase.split("{}", 1)
        self.add(before)
        span = (len(self.text), len(self.text) + len(noun))
        self.text += noun
        self.add(after)
        self.nouns.append(span)
        self.mentions.append(Mention(*span, thing))


def narrate(scene: Scene, visible: np.ndarray, rng: np.random.Generator) -> list[Caption]:
    """The narratives of a scene: one for each thing that can be distinguished, and one for the background.

    Args:
        scene: the scene.
        visible: bool [K, T], whether enough of a thing is visible in a frame.
        rng: random number generator.
    """
    captions = []
    for thing in range(len(scene.things)):
        if visible[thing].any():
            caption = _narrate_actor(thing, scene, visible, rng)
            if caption is not None:
                captions.append(caption)
    captions.append(_background(rng))
    return captions


def _narrate_actor(actor: int, scene: Scene, visible: np.ndarray, rng: np.random.Generator) -> Caption | None:
    mentioned: set[int] = set()
    phrase = describe(actor, scene, visible, rng, mentioned)
    if phrase is None:
        return None
    text = _Text()
    text.add_mention(phrase, scene.things[actor].noun, actor)
    mentioned.add(actor)
    text.add(" " + _verb(scene.things[actor], rng))
    companions = [i for i in range(len(scene.things)) if i != actor and (visible[i] & visible[actor]).any()]
    for count, other in enumerate(rng.permutation(companions)[:2].tolist()):
        phrase = describe(other, scene, visible, rng, mentioned)
        if phrase is None:
            continue
        if count == 0 and rng.random() < 0.4:
            text.add(f" {rng.choice(_SEES)} ")
            text.add_mention(phrase, scene.things[other].noun, other)
        else:
            text.add(f" {rng.choice(_LINKS)} ")
            text.add_mention(phrase, scene.things[other].noun, other)
            text.add(" " + _verb(scene.things[other], rng))
        mentioned.add(other)
    text.add(".")
    return Caption(
        actor_name(actor, scene), text.text[0].upper() + text.text[1:], tuple(text.mentions), tuple(sorted(text.nouns))
    )


def _verb(thing: Thing, rng: np.random.Generator) -> str:
    return str(rng.choice(_MOVES[thing.motion]))


def _background(rng: np.random.Generator) -> Caption:
    text = _Text()
    stuff = str(rng.choice(["wall", "floor", "meadow", "sky"]))
    text.add(f"In the [background], there is a {rng.choice(['grey', 'dull', 'rough'])} [{stuff}].")
    return Caption("background", text.text, (), tuple(text.nouns))
