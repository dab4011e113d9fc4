"""Attacks on fastnn, seeded: hostile calls, changes under way, damage, interrupts, scarce memory, forks and threads.

``python -m tests.stress`` runs them, see CONTRIBUTING.md. Each part is a module with

- ``prepare(folder)``, called once in a process of the part's own, whose children make the attempts;
- ``draw(rng)``, which says what the attempt of that generator will be, as a dict of plain values;
- ``attempt(case)``, which makes it and returns ``HELD`` or ``RAISED``, or raises ``Broken``;
- ``PER_CHILD``, how many attempts share a child, and ``ENVIRONMENT``, the variables that the part needs.
"""
