# The official image of PostgreSQL with pg_outbox in it:
#
#     docker build -t pg_outbox --build-arg PG_MAJOR=17 .
#
# compose.yaml runs it.  The extension is preloaded and made in the database that
# the image makes at its first start.

ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR}-bookworm AS build
ARG PG_MAJOR
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
        "postgresql-server-dev-${PG_MAJOR}" libpq-dev \
        pkg-config libncurses-dev libcurl4-openssl-dev libssl-dev \
        librabbitmq-dev libqpid-proton11-dev librdkafka-dev
COPY . /src
RUN make -C /src PG_CONFIG="/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config" DESTDIR=/out install

FROM postgres:${PG_MAJOR}-bookworm
# what the program pg_outbox and its sinks were built with
RUN apt-get update \
    && apt-get install -y --no-install-recommends libncursesw6 libcurl4 librabbitmq4 libqpid-proton11 librdkafka1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /
RUN sed -i \
        -e "s/^#\?shared_preload_libraries = .*/shared_preload_libraries = 'pg_outbox'/" \
        -e "s/^#\?max_worker_processes = .*/max_worker_processes = 16/" \
        /usr/share/postgresql/postgresql.conf.sample \
    && echo "CREATE EXTENSION pg_outbox;" >/docker-entrypoint-initdb.d/10-pg_outbox.sql
