# The commands of the README, and the full-size proofs. Everything else is `cargo x`.
.PHONY: test demo prove setup

# make demo PAIR=postgres:mariadb; make prove crash PAIR=postgres:mariadb
PAIR ?=

test:
	cargo x test

demo:
	cargo x demo $(if $(PAIR),--pair $(PAIR))

setup:
	cargo x setup

# The words after `prove` are names of proofs and not of targets.
ifeq (prove,$(firstword $(MAKECMDGOALS)))
NAME ?= $(wordlist 2,9,$(MAKECMDGOALS))
.PHONY: $(NAME)
$(NAME):
	@:
endif

prove:
	cargo x prove $(NAME) $(if $(PAIR),--pair $(PAIR))
