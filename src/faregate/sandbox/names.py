"""A name for every number and back again: deterministic, unique, and easy to read in a trace.

The people behind the names do not belong here; `people` gives them a birthday and a row of the sample data.
"""

from __future__ import annotations

from typing import Final

_GIVEN_TEXT: Final = """
Ada Alan Alice Amir Anna Anton Beatriz Ben Bianca Carlos Carmen Chen Clara Daniel Diana Dmitri Edith
Elena Elias Emma Erik Eva Farid Fiona Frida Georg Gina Grace Hana Hassan Helen Hugo Ida Igor Ines
Isaac Ivan Jana Jonas Julia Kai Karin Kenji Lara Leo Lina Luis Maja Marco Maria Mila Nadia Nils Nora
Olga Omar Otto Paula Pedro Rosa Samir Sofia Tomas Vera
"""
_FAMILY_TEXT: Final = """
Abel Acker Adler Albrecht Almeida Andersen Arnold Bachmann Baker Barros Bauer Becker Berger Bianchi
Blake Bondarenko Brandt Braun Busch Castillo Chandra Conti Costa Cruz Dahl Daniels Delgado Dietrich
Dubois Eberhardt Ellis Engel Farkas Ferrari Fischer Flores Foster Franke Garcia Gomez Graf Grimm
Gruber Haas Hansen Hartmann Hayashi Herrera Hoffmann Holm Horvat Huber Ivanov Jansen Jensen Kaya
Keller Khan Klein Koch Kovacs Kraus Kruger Lang Larsen Lehmann Lindgren Lopez Lorenz Maier Marino
Martin Mendes Meyer Moreau Morgan Nakamura Navarro Neumann Nowak Okafor Olsen Ortega Otto Pereira
Petrov Popescu Ramos Reyes Ricci Romano Santos Sato Schmidt Schneider Schulz Silva Tanaka Vogel
Wagner
"""
GIVEN: Final = tuple(_GIVEN_TEXT.split())
FAMILY: Final = tuple(_FAMILY_TEXT.split())
_PAIRS: Final = len(GIVEN) * len(FAMILY)
_STRIDE: Final = 2741
_STRIDE_INVERSE: Final = pow(_STRIDE, -1, _PAIRS)
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def legal_name(number: int) -> str:
    """Return the name of a number >= 0. The first thousands have two parts, the rest a middle part too."""
    round_, place = divmod(number, _PAIRS)
    family, given = divmod(place * _STRIDE % _PAIRS, len(GIVEN))
    return " ".join(part for part in (GIVEN[given], _middle(round_), FAMILY[family]) if part)


def number_of(name: str) -> int | None:
    """Return the number whose name this is, None for a name that no number has."""
    given, _, rest = name.partition(" ")
    middle, _, family = rest.rpartition(" ")
    if given not in GIVEN or family not in FAMILY:
        return None
    pair = FAMILY.index(family) * len(GIVEN) + GIVEN.index(given)
    number = _round(middle) * _PAIRS + pair * _STRIDE_INVERSE % _PAIRS
    return number if legal_name(number) == name else None


def _middle(round_: int) -> str:
    """Count in letters: 0 is no middle name, then A, B, … Z, AA, AB, …"""
    letters = ""
    while round_ > 0:
        round_, letter = divmod(round_ - 1, len(_LETTERS))
        letters = _LETTERS[letter] + letters
    return letters


def _round(middle: str) -> int:
    round_ = 0
    for letter in middle:
        round_ = round_ * len(_LETTERS) + _LETTERS.find(letter) + 1
    return round_
