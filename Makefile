# The commands of the README, and the full-size proofs. Everything else is `cargo x`.
.PHONY: test demo prove setup

test:
	cargo x test

demo:
	cargo x demo

setup:
	cargo x setup

prove:
	cargo x prove $(NAME)
