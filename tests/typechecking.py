"""How jaxtyping's annotations are checked while tests run: an int will do for a float (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
