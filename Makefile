# The two commands of the README, and the full-size proofs. Everything else is `cargo x`.
.PHONY: test prove setup

test:
	cargo x test

setup:
	cargo x setup

prove:
	cargo x prove $(NAME)
