# `just` lists what can be run.
_default:
    @just --list --unsorted

# Build and start Weir; arguments go to weir
start *arguments:
    scripts/start {{arguments}}

# Start the demo company, an airport with live departures
demo *arguments:
    scripts/start demo {{arguments}}

# Run the tests; arguments go to cargo test
test *arguments:
    scripts/test {{arguments}}

# What CI runs
check:
    .ci/run

# Regenerate .sqlx after a change of a query or a migration
sqlx:
    scripts/prepare-sqlx
