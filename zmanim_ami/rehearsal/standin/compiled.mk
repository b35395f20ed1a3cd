# An extension of PostgreSQL that was compiled elsewhere, installed as PGXS would: for a rehearsal without its source.
PG_CONFIG = pg_config
COMPILED = compiled/usr/lib/postgresql/*/lib
SCRIPTS = compiled/usr/share/postgresql/*/extension

all:

install:
	install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	install -m 0755 $(COMPILED)/*.so "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)"
	install -m 0644 $(SCRIPTS)/* "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"

clean:

.PHONY: all install clean
