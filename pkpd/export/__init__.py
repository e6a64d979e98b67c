"""Models as text of other programs: NONMEM, mrgsolve, rxode2 and nlmixr2."""
