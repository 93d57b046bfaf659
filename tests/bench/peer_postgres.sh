#!/bin/sh
# peer_postgres.sh - PostgreSQL as a double-entry ledger, for bench_ledger: peer_postgres.sh SECONDS.
# Its own cluster on a private socket in a temporary folder beside the ledger's, durable (fsync and
# synchronous_commit on), one function call per transfer or per batch of 1,000. Prints "key transfers/s".
set -eu
seconds=${1:-10}
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/pgbench" ] || { echo "peer_postgres: no PostgreSQL; make bench-deps" >&2; exit 1; }
folder=$(mktemp -d)
as=
if [ "$(id -u)" -eq 0 ]; then # postgres refuses to be root
    chown postgres "$folder"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
cd "$folder"
stop() {
    $as "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM
$as "$bin/initdb" -D "$folder/data" -A trust -U bench --no-sync >/dev/null
cat >>"$folder/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$folder'
max_connections = 100
shared_buffers = 1GB
max_wal_size = 8GB
wal_compression = on
synchronous_commit = on
fsync = on
CONF
$as "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w start >/dev/null
sql() { $as psql -h "$folder" -U bench -d postgres -qAt -v ON_ERROR_STOP=1 "$@"; }
sql <<'SQL'
create table accounts (id int primary key, balance numeric(38, 0) not null check (balance >= 0));
create table transfers (id bigserial primary key, payer int not null, receiver int not null,
                        amount numeric(38, 0) not null, at timestamptz not null default now());
insert into accounts select i, 1000000000000000 from generate_series(1, 10000) i;
create function transfer(payer int, receiver int, amount numeric) returns void language plpgsql as $$
begin
    if payer < receiver then -- in order of id, so that two transfers never wait for each other
        update accounts set balance = balance - amount where id = payer;
        update accounts set balance = balance + amount where id = receiver;
    else
        update accounts set balance = balance + amount where id = receiver;
        update accounts set balance = balance - amount where id = payer;
    end if;
    insert into transfers (payer, receiver, amount) values (payer, receiver, amount);
end $$;
create function transfer_batch(from_id int, receivers int[], amount numeric) returns void language plpgsql as $$
begin
    perform 1 from accounts where id = any (receivers || from_id) order by id for update;
    update accounts a set balance = a.balance + r.n * amount
        from (select x, count(*) n from unnest(receivers) x group by x) r where a.id = r.x;
    update accounts set balance = balance - cardinality(receivers) * amount where id = from_id;
    insert into transfers (payer, receiver, amount) select from_id, x, amount from unnest(receivers) x;
end $$;
SQL
sql -c 'vacuum analyze'
cat >single.sql <<'SQL'
\set payer random(1, 10000)
\set other random(1, 9999)
\set receiver :other + case when :other >= :payer then 1 else 0 end
select transfer(:payer, :receiver, 1);
SQL
cat >batch.sql <<'SQL'
\set payer random(1, 100)
select transfer_batch(:payer, array(select 101 + (random() * 9898)::int from generate_series(1, 1000)), 1);
SQL
rate() { # file, clients
    $as "$bin/pgbench" -h "$folder" -U bench -n -M prepared -f "$1" -c "$2" -j 2 -T "$seconds" postgres |
        sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}
sync # what others left to be written is not ours to wait for
echo "single_8 $(rate single.sql 8)"
echo "single_64 $(rate single.sql 64)"
for clients in 1 2 8; do
    echo "batched_$clients $(rate batch.sql "$clients" | awk '{print $1 * 1000}')"
done
