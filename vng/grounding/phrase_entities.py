"""Which nouns of a narrative mean one thing, and which must mean different things, by their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vng.grounding.phrase_words import (
    AT,
    GROUPS,
    INDEFINITE,
    MARKS,
    ORDINALS,
    POSSESSIVE,
    PRONOUNS,
    SIDES,
    TELLING_APART,
    Reading,
    Word,
)

_SHORT = len("thing")  # nouns in "-ing" ("ring", "wing") are no participles


@dataclass(frozen=True, kw_only=True)
class Mention:
    """How a noun is introduced."""

    name: str  # its head, in lower case
    determiner: str  # "a", "the", "another", "her", "'s"; "" for none
    ordinal: int  # 2 for "second"; 0 for none
    other: bool  # "the other ..."
    looks: frozenset[str]  # adjectives, possessors and compounds
    restriction: tuple[str, ...]  # what tells it from others with its name: "on the left", "moving to the left"


@dataclass(kw_only=True)
class _Entity:
    name: str
    ordinal: int = 0
    later: bool = False  # "another": there is one before it
    looks: set[str] = field(default_factory=set)
    restrictions: set[tuple[str, ...]] = field(default_factory=set)
    owner: str = ""  # "his", "her"


def entities_of(words: Sequence[Word], readings: Sequence[Reading]) -> tuple[list[int], list[tuple[int, ...]]]:
    """(entity of each noun, for each noun the nouns that must mean something else)."""
    known: list[_Entity] = []
    numbers: dict[int, int] = {}  # head word -> entity
    differ: set[tuple[int, int]] = set()
    members = _members(words, readings)
    order = sorted({reading.head: reading for reading in readings}.values(), key=lambda reading: reading.head)
    for reading in order:
        mention = mention_of(words, reading)
        if (whole := members.get(reading.head)) is not None:
            numbers[reading.head] = numbers[whole]
            continue
        earlier = [numbers[r.head] for r in order if r.head in numbers and mention_of(words, r).name == mention.name]
        earlier = list(dict.fromkeys(reversed(earlier)))  # the latest first
        beside = {numbers[r.head] for r in order if r.head in numbers and _in_one_clause(words, r, reading)}
        number, unlike = _resolve(mention, [n for n in earlier if n not in beside], known)
        unlike = [*unlike, *(n for n in earlier if n in beside)]
        if number is None:
            number = len(known)
            known.append(_Entity(name=mention.name))
        _add(known[number], mention)
        numbers[reading.head] = number
        differ |= {pair for other in unlike if other != number for pair in ((other, number), (number, other))}
    entities = [numbers[reading.head] for reading in readings]
    first_seen = list(dict.fromkeys(entities))
    apart = [tuple(j for j, other in enumerate(entities) if (own, other) in differ) for own in entities]
    return [first_seen.index(entity) for entity in entities], apart


def _in_one_clause(words: Sequence[Word], first: Reading, second: Reading) -> bool:
    """Whether nothing that ends a clause lies between two nouns: then they mean two things, or it would say "itself"."""
    between = words[first.head + 1 : second.left]
    return not any(word.is_mark or word.key in MARKS or word.key in ("and", "or") for word in between)


def mention_of(words: Sequence[Word], reading: Reading) -> Mention:
    """How a noun is introduced, from the words before its head."""
    before = [word.key for word in words[reading.left : reading.head]]
    owned = next((key for key in before if key in POSSESSIVE), "")
    own = before[len(before) - before[::-1].index(owned) :] if owned else before  # "the first man's head"
    determiner = owned or next((key for key in before if key not in TELLING_APART), "")
    if determiner and not owned and words[reading.left].key != determiner:
        determiner = ""
    if determiner and not owned and reading.left == reading.first:
        determiner = ""  # an adjective
    plain = [w.key for w in words[reading.first : reading.head] if w.is_plain and w.key not in TELLING_APART]
    return Mention(
        name=words[reading.head].key,
        determiner=determiner,
        ordinal=next((ORDINALS[key] for key in own if key in ORDINALS), 0),
        other=bool({"other", "different"} & set(own)),
        looks=frozenset(plain),
        restriction=_restriction(words, reading.head + 1),
    )


def _restriction(words: Sequence[Word], start: int) -> tuple[str, ...]:
    """The keys of a place or a participle right after a noun, as far as they tell it from others; () for none.

    "on the left", "moving to the left", "standing still", "standing behind": at most four words, not beyond a mark.
    """
    keys: list[str] = []
    for word in words[start : start + 4]:
        if word.is_mark:
            break
        keys.append(word.key)
    if keys[:1] and keys[0] in AT and keys[1:2] == ["the"] and keys[2:3] and keys[2] in SIDES:
        return tuple(keys[:3])
    if keys[:1] and keys[0].endswith("ing") and len(keys[0]) > _SHORT:
        return tuple(keys) if keys[1:3] == ["to", "the"] else tuple(keys[:2])
    return ()


def _members(words: Sequence[Word], readings: Sequence[Reading]) -> dict[int, int]:
    """Head of "people" -> head of "group", for "a group of people": they are the same things."""
    found: dict[int, int] = {}
    for reading in readings:
        if words[reading.head].key in GROUPS and words[reading.head + 1 : reading.head + 2]:
            start = reading.head + 2
            if words[reading.head + 1].key == "of":
                found |= {r.head: reading.head for r in readings if r.left <= start <= r.head}
    return found


def _resolve(mention: Mention, earlier: list[int], known: list[_Entity]) -> tuple[int | None, list[int]]:
    """(the entity of a mention or None for a new one, entities that it must not be); `earlier` have its name."""
    if mention.determiner == "another" or mention.determiner in INDEFINITE:
        return None, earlier
    if mention.ordinal:
        match = next((n for n in earlier if known[n].ordinal == mention.ordinal), None)
        introduced = sorted(earlier)
        counted = bool(introduced) and known[introduced[0]].ordinal in (0, 1) and not known[introduced[0]].later
        if match is None and counted and mention.ordinal <= len(introduced):
            counted_one = introduced[mention.ordinal - 1]
            match = None if known[counted_one].ordinal else counted_one
        return match, earlier
    if mention.other:
        rest = earlier[1:]  # not the one just spoken of
        return (rest[0] if len(rest) == 1 else None), earlier[:1] if rest else earlier
    if not mention.determiner:
        unlike = [n for n in earlier if _unlike(mention, known[n])]
        return None, unlike
    fitting = [n for n in earlier if _fits(mention, known[n])]
    return (fitting[0] if fitting else None), [n for n in earlier if n not in fitting]


def _unlike(mention: Mention, entity: _Entity) -> bool:
    """Whether both have adjectives, and each one that the other lacks."""
    return bool(mention.looks - entity.looks and entity.looks - mention.looks)


def _fits(mention: Mention, entity: _Entity) -> bool:
    """Whether "the ..." may mean an entity: no other adjectives, no other owner."""
    if mention.determiner in PRONOUNS and entity.owner and entity.owner != mention.determiner:
        return False
    if mention.restriction and mention.restriction not in entity.restrictions:
        # What is told apart in another way is another thing: "the red ball ... the ball on the left".
        return not entity.restrictions and not entity.looks
    if entity.restrictions and not mention.restriction:
        return not mention.looks - entity.looks  # "the ball on the left ... the red ball"
    return not entity.looks or not mention.looks - entity.looks


def _add(entity: _Entity, mention: Mention) -> None:
    entity.ordinal = entity.ordinal or mention.ordinal
    entity.later = entity.later or mention.determiner == "another" or mention.other
    entity.looks |= mention.looks
    entity.restrictions |= {mention.restriction} - {()}
    entity.owner = entity.owner or (mention.determiner if mention.determiner in PRONOUNS else "")
