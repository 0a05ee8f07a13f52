"""Phrases of marked nouns: head, phrase, clause, entity, without a parser and with a hand-made parse."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from spacy.tokens import Doc
from spacy.vocab import Vocab

from benchmarks.phrases import measure, measure_unseen
from vng.errors import UsageError
from vng.grounding.phrases import Phrase, find_pipeline, phrases_of
from vng.narratives import parse_marked


def read(marked: str) -> tuple[Phrase, ...]:
    return phrases_of(*parse_marked(marked))


def texts(marked: str) -> list[str]:
    return [phrase.text for phrase in read(marked)]


def entities(marked: str) -> list[int]:
    return [phrase.entity for phrase in read(marked)]


def test_a_narrative_of_two_parrots() -> None:
    first, beak, other = read("A green [parrot] with a red [beak] is playing with the other [parrot].")
    assert (first.head, first.text) == ("parrot", "green parrot with a red beak")
    assert first.clause == "parrot playing with the other parrot"
    assert (beak.text, beak.clause) == ("red beak", "")  # inside the parrot's phrase: the beak does not play
    assert (other.text, other.clause) == ("parrot", "playing with the other parrot")
    assert first.entity != other.entity and first.differs_from == (2,) and other.differs_from == (0,)
    assert beak.differs_from == ()


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("A [dog] runs.", ["dog"]),
        ("Two [dogs] chase a big, old [cat].", ["dogs", "big, old cat"]),
        ("Brown and white [horses] run.", ["Brown and white horses"]),
        ("The [man] throws red [balls].", ["man", "red balls"]),
        ("The [farmer's] wet [dog] barks.", ["farmer's", "farmer's wet dog"]),
        ("The first man's [hat] falls.", ["man's hat"]),
        ("A [woman] wearing a long coat runs.", ["woman wearing a long coat"]),
        ("A [woman], wearing a long coat, is running.", ["woman, wearing a long coat"]),
        ("A [man] in a red [shirt] waits in the rain.", ["man in a red shirt", "red shirt"]),
        ("A [man] in the rain.", ["man"]),  # where it happens
        ("A [child] puts the [ball] on the [box].", ["child", "ball", "box"]),
        ("The [child] sees the [ball] on the [box].", ["child", "ball on the box", "box"]),
        ("A [girl] on the left riding a [pony].", ["girl on the left", "pony"]),
        ("A [house] surrounded by tall [trees] burns.", ["house surrounded by tall trees", "tall trees"]),
        ("The [stone] walls and the [grey]-blue roof.", ["stone walls", "grey-blue roof"]),
    ],
)
def test_phrases(marked: str, expected: list[str]) -> None:
    if "farmer's" in marked:
        marked, expected = marked.replace("[farmer's]", "[farmer]'s"), ["farmer", *expected[1:]]
    assert texts(marked) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("A [man] sees a [dog]. The [man] calls the [dog].", [0, 1, 0, 1]),
        ("A [man] meets another [man]; the [dog] barks.", [0, 1, 2]),
        ("A [man] meets a [man].", [0, 1]),
        ("A [car] hits a second [car]; the second [car] spins, the first [car] stops.", [0, 1, 1, 0]),
        ("The third [man] waves at the second [man].", [0, 1]),
        ("A [cat] and another [cat] sleep. The other [cat] wakes.", [0, 1, 0]),
        ("A white [cat] and a black [cat]; the black [cat] and the white [cat].", [0, 1, 1, 0]),
        ("She drops her [hat] and he drops his [hat].", [0, 1]),
        ("A [group] of young [people] sing.", [0, 0]),
        ("The [men] and the [man].", [0, 1]),
        ("A man's [head] and a woman's [head]; the man's [head].", [0, 1, 0]),
    ],
)
def test_entities(marked: str, expected: list[int]) -> None:
    assert entities(marked) == expected


def test_what_must_differ() -> None:
    assert [p.differs_from for p in read("A [man], another [man] and a [dog].")] == [(1,), (0,), ()]
    assert [p.differs_from for p in read("Red [balls] hit blue [balls].")] == [(1,), (0,)]
    assert [p.differs_from for p in read("A [man] sings. The [man] dances.")] == [(), ()]


def test_clauses() -> None:
    clauses = [p.clause for p in read("A [man] holds a [cup] then drops the [cup] and the [dog] runs.")]
    assert clauses == ["man holds a cup", "holds a cup", "drops the cup", "dog runs"]
    assert [p.clause for p in read("In the [yard], there is a [dog].")] == ["", ""]


def test_any_text() -> None:
    assert phrases_of("Nobody is here.", []) == ()
    (phrase,) = read("Ein alter [Mu\u0308ller] 🪑 läuft.")  # a combining mark
    assert (phrase.head, phrase.text) == ("Mu\u0308ller", "Mu\u0308ller")
    (phrase,) = read("一只[狗]在跑。")
    assert (phrase.head, phrase.text) == ("狗", "狗")
    assert [p.text for p in phrases_of("a  \n b", [(1, 4), (5, 6)])] == ["  \n", "b"]  # a span of spaces
    assert [p.head for p in phrases_of("...", [(0, 1), (0, 3)])] == [".", "."]
    with pytest.raises(ValueError, match="not inside the caption"):
        phrases_of("A dog.", [(2, 9)])


def test_spans_that_overlap_or_repeat() -> None:
    description = "A black dog house falls."
    whole, part, again, shade = phrases_of(description, [(8, 17), (12, 17), (8, 17), (2, 7)])
    assert whole.head == part.head == "house" and whole.text == part.text == "black dog house"
    assert whole == again and whole.entity == part.entity == shade.entity == 0 and whole.differs_from == ()


def test_spans_are_of_the_description() -> None:
    description, spans = parse_marked("Three old [ladies] with 2 [dogs],   walking past the ladies' [home]!")
    for phrase, span in zip(phrases_of(description, spans), spans, strict=True):
        assert phrase.span == span and description[slice(*phrase.text_span)] == phrase.text
        assert description[slice(*phrase.head_span)] == phrase.head and phrase.head in phrase.text


def test_random_texts_keep_their_promises() -> None:
    rng = random.Random(1)
    words = "a the another other first man dog red and , . 's with of wearing on left grey-red is 🪑 people group"
    pieces = [*words.split(), "\n"]
    for _ in range(500):
        description = " ".join(rng.choices(pieces, k=rng.randint(1, 12)))
        starts = [rng.randrange(len(description)) for _ in range(3)]
        spans = [(start, rng.randint(start + 1, min(len(description), start + 9))) for start in starts]
        read = phrases_of(description, spans)
        for number, phrase in enumerate(read):
            assert phrase.span == spans[number] and phrase.head, description
            assert phrase.text_span[0] <= phrase.head_span[0] < phrase.head_span[1] <= phrase.text_span[1], description
            assert all(number in read[other].differs_from for other in phrase.differs_from), description
            assert all(read[other].entity != phrase.entity for other in phrase.differs_from), description


class Parsed:
    """A pipeline that knows one sentence."""

    meta: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, text: str) -> Doc:
        words = ["A", "spotted", "dog", "from", "Kent", "chases", "a", "ball", "."]
        assert text == "A spotted dog from Kent chases a ball."
        return Doc(
            Vocab(),
            words,
            spaces=[True] * 7 + [False] * 2,
            pos=["DET", "ADJ", "NOUN", "ADP", "PROPN", "VERB", "DET", "NOUN", "PUNCT"],
            tags=["DT", "JJ", "NN", "IN", "NNP", "VBZ", "DT", "NN", "."],
            heads=[2, 2, 5, 2, 3, 5, 7, 5, 5],
            deps=["det", "amod", "nsubj", "prep", "pobj", "ROOT", "det", "dobj", "punct"],
        )


def test_a_parse_says_more_than_the_rules() -> None:
    description, spans = parse_marked("A spotted [dog] from Kent chases a [ball].")
    dog, ball = phrases_of(description, spans, Parsed())
    assert (dog.text, dog.clause) == ("spotted dog from Kent", "dog chases a ball")
    assert (ball.text, ball.clause) == ("ball", "chases a ball")
    assert phrases_of(description, spans)[0].text == "spotted dog"


def test_pipelines() -> None:
    assert find_pipeline("rules") is None
    with pytest.raises(UsageError, match="'no_such_pipeline' is not installed"):
        find_pipeline("no_such_pipeline")


def test_real_narratives(shared: Path) -> None:
    figures = measure(shared / "vidln" / "vidlns").figures()
    assert (figures["nouns"], figures["pairs"]) == (129, 419)
    assert figures["head_percent"] == 100 and figures["phrase_percent"] >= 90 and figures["entity_percent"] >= 90
    assert figures["same_percent"] >= 90 and figures["must_differ_wrong"] == 0
    unseen = measure_unseen(shared / "davis_val" / "expressions.json")
    assert unseen.nouns == unseen.heads == 40 and unseen.phrases >= 34
