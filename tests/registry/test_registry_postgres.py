"""What is PostgreSQL's own: a server that is away, full, read-only or slow, and sessions that die."""

import pytest
import registry_kit as kit
from sqlalchemy import NullPool, create_engine, event, make_url, text

from mei_pipeline.cli.doctor import examine
from mei_pipeline.errors import Busy, ConfigError, DataError, OutcomeUnknown, Retryable
from mei_pipeline.registry import store
from mei_pipeline.registry.database import open_registry, read_transaction, write_transaction
from mei_pipeline.settings import read_settings

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(tmp_path, server, monkeypatch):
    monkeypatch.setenv(kit.SERVER, server)
    return kit.url(tmp_path)


def connected(url):
    return create_engine(url, poolclass=NullPool)


def test_a_writer_waits_for_another_only_so_long(url):
    registry = open_registry(url, busy_timeout_s=0.01)
    other = open_registry(url)
    with write_transaction(other), pytest.raises(Busy, match="another process writes"):
        kit.judged(registry)
    kit.judged(registry)
    assert len(store.list_configs(registry)) == 1


def test_a_reader_waits_for_nobody_and_sees_one_state(url):
    registry = open_registry(url)
    kit.judged(registry, 1)
    with write_transaction(registry), read_transaction(registry) as connection:
        assert connection.execute(text("SELECT count(*) FROM configs")).scalar() == 1
    with read_transaction(registry) as connection:
        assert connection.execute(text("SELECT count(*) FROM configs")).scalar() == 1
        kit.judged(registry, 2)
        assert connection.execute(text("SELECT count(*) FROM configs")).scalar() == 1
    assert len(store.list_configs(registry)) == 2


def test_a_database_that_is_not_there_is_named(server):
    url = make_url(server).set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(ConfigError, match='database "nowhere" does not exist; correct MEI_REGISTRY_URL'):
        open_registry(url)


def test_a_read_only_database_can_be_read_and_not_written(url):
    registry = open_registry(url)
    config_id = kit.judged(registry)
    name = make_url(url).database
    with connected(url).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    assert store.get_config(registry, config_id).config_id == config_id
    with pytest.raises(DataError, match="read-only transaction; make it writable"):
        kit.judged(registry, 2)


def test_a_user_who_may_not_write_is_told(url):
    registry = open_registry(url)
    config_id = kit.judged(registry)
    with connected(url).begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS guest"))
        connection.execute(text("CREATE ROLE guest LOGIN"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest"))
    guest = open_registry(make_url(url).set(username="guest").render_as_string(hide_password=False))
    assert store.get_config(guest, config_id).config_id == config_id
    with pytest.raises(DataError, match=r"permission denied .*make it writable"):
        kit.judged(guest, 2)
    with connected(url).begin() as connection:
        connection.execute(text("DROP OWNED BY guest"))
        connection.execute(text("DROP ROLE guest"))


def test_a_lost_table_is_reported(url):
    registry = open_registry(url)
    with connected(url).begin() as connection:
        connection.execute(text("DROP TABLE lanes"))
    with pytest.raises(DataError, match='damaged: relation "lanes" does not exist'):
        store.lane_pointers(registry)


def test_a_session_that_is_ended_in_the_middle_has_written_nothing(url):
    registry = open_registry(url)
    config_id = kit.judged(registry, 1)

    def end(connection, _cursor, statement, *_more):
        if statement.startswith("INSERT INTO transitions"):
            with connected(url).connect() as killer:
                killer.execute(text(f"SELECT pg_terminate_backend({connection.info['pid']})"))

    event.listen(registry.database, "begin", lambda connection: connection.info.update(pid=pid(connection)))
    event.listen(registry.database, "after_cursor_execute", end)
    with pytest.raises(Retryable, match="nothing was written"):
        kit.judged(registry, 2)
    assert [story.config.config_id for story in store.list_configs(open_registry(url))] == [config_id]


def end_at_commit(registry, url, *, committed):
    """End the session of a writer at its commit: before it took effect, or before the answer came."""

    def end(connection):
        raw = connection.connection.dbapi_connection
        if committed:
            raw.cursor().execute("COMMIT")
        number = pid_of(raw)
        with connected(url).connect() as killer:
            killer.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))
        if committed:
            raw.close()

    event.listen(registry.database, "commit", end, once=True)


def pid_of(raw):
    return raw.info.backend_pid


def test_a_session_that_is_ended_before_its_commit_has_written_nothing(url):
    registry = open_registry(url)
    end_at_commit(registry, url, committed=False)
    with pytest.raises(Retryable, match="nothing was written"):
        kit.judged(registry)
    assert store.list_configs(registry) == ()


def test_a_commit_whose_answer_is_lost_is_read_back(url):
    registry = open_registry(url)
    end_at_commit(registry, url, committed=True)
    config_id = kit.judged(registry)
    assert [story.config.config_id for story in store.list_configs(registry)] == [config_id]


def test_a_commit_that_cannot_be_read_back_is_unknown(url, server):
    registry = open_registry(url, busy_timeout_s=0.01)
    name = make_url(url).database
    end_at_commit(registry, url, committed=True)

    def allow(answer):
        with connected(server).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {answer}"))

    event.listen(registry.database, "commit", lambda _: allow("false"), once=True)
    with pytest.raises(OutcomeUnknown, match=r"may have taken effect.*mei registry history"):
        kit.judged(registry)
    allow("true")
    assert len(store.list_configs(registry)) == 1


def pid(connection):
    return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()


def test_a_database_of_something_else_is_left_alone(url):
    with connected(url).begin() as connection:
        connection.execute(text("CREATE TABLE cakes (flour INTEGER)"))
    with pytest.raises(DataError, match="it has cakes"):
        open_registry(url)


def test_the_doctor_sees_a_server_that_takes_no_writes(url, monkeypatch):
    monkeypatch.setenv("MEI_REGISTRY_URL", url)
    open_registry(url)
    [finding] = examine(read_settings(), {"registry"})
    assert finding.level == "ok"
    name = make_url(url).database
    with connected(url).connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        connection.commit()
    [finding] = examine(read_settings(), {"registry"})
    assert (finding.level, "read-only" in finding.state) == ("fail", True)
