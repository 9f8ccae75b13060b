import yaml

from des.cli.exits import Exit


def test_show_prints_every_setting_as_yaml_that_loads_to_the_same(des):
    ran = des("config", "show")
    assert ran.code == Exit.OK
    shown = yaml.safe_load(ran.text)
    assert shown["listen"] == "127.0.0.1:7420"
    assert shown["log"]["segment_bytes"] == "64MiB"
    (des.folder / "all.yaml").write_text(ran.text)
    again = des("config", "show", "--defaults", "--config", "all.yaml")
    assert yaml.safe_load(again.text) == shown


def test_flags_win_over_variables_over_the_file_over_defaults_and_each_is_named(des):
    (des.folder / "des.yaml").write_text(
        "data_dir: /from/file\nlisten: 127.0.0.1:1\nhttp_listen: 127.0.0.1:2\nseal: {age_s: 1, entries: 5}\n"
    )
    ran = des(
        "config",
        "show",
        "--listen",
        "127.0.0.1:9",
        "--set",
        "seal.retry_s=3",
        env={"DES_CONFIG": "des.yaml", "DES_LISTEN": "127.0.0.1:8", "DES_SEAL__AGE_S": "7"},
    )
    assert ran.code == Exit.OK
    lines = [line.strip() for line in ran.lines]
    assert "data_dir: /from/file  # file des.yaml" in lines
    assert "listen: 127.0.0.1:9  # --listen" in lines
    assert "http_listen: 127.0.0.1:2  # file des.yaml" in lines
    assert "age_s: 7.0  # variable DES_SEAL__AGE_S" in lines
    assert "entries: 5  # file des.yaml" in lines
    assert "retry_s: 3.0  # --set" in lines
    assert "node_id: 0" in lines


def test_show_as_json_is_one_object_with_groups_and_bytes_as_numbers(des):
    (shown,) = des("config", "show", "--json", env={"DES_DATA_DIR": "/data"}).records
    assert shown["data_dir"] == "/data"
    assert shown["log"]["segment_bytes"] == 64 << 20


def test_keys_of_the_object_store_are_hidden(des):
    env = {"DES_S3__SECRET_ACCESS_KEY": "canary-1", "DES_S3__ACCESS_KEY_ID": "canary-2"}
    for arguments in ([], ["--json"]):
        ran = des("config", "show", *arguments, env=env)
        assert "***" in ran.text
        assert "canary" not in ran.text
    wrong = des("config", "check", "--set", "s3.session_token.x=canary-3")
    assert "s3.session_token: found '***'" in wrong.err
    assert "canary" not in wrong.err


def test_passwords_are_hidden(des):
    url = "postgresql+asyncpg://des:s3:cr/t@p@db:5432/des?password=s3cret"
    for arguments in ([], ["--json"]):
        ran = des("config", "show", *arguments, env={"DES_CATALOG_URL": url})
        assert "postgresql+asyncpg://des:***@db:5432/des?password=***" in ran.text
        assert "cr/t" not in ran.text
        assert "s3cret" not in ran.text


def test_mistakes_name_the_key_its_source_what_was_found_and_what_was_expected(des):
    (des.folder / "des.yaml").write_text("seal: {size_byts: 1}\nlog: {budget_bytes: lots}\n")
    ran = des("config", "check", "--config", "des.yaml", "--set", "shard_bits=99", env={"DES_NODE_ID": "300"})
    assert ran.code == Exit.USAGE
    assert ran.out == b""
    assert sorted(ran.err.splitlines()) == [
        "  log.budget_bytes: found 'lots' from file des.yaml, expected a size such as 1048576 or 64MiB",
        "  node_id: found '300' from variable DES_NODE_ID, expected less than or equal to 255",
        "  seal.size_byts: unknown setting, from file des.yaml; did you mean seal.size_bytes?",
        "  shard_bits: found '99' from --set, expected less than or equal to 16",
        "des: wrong settings",
    ]


def test_files_that_are_missing_no_yaml_or_no_mapping_are_told_apart(des):
    (des.folder / "broken.yaml").write_text("a: [1,\n")
    (des.folder / "list.yaml").write_text("- a\n")
    (des.folder / "empty.yaml").write_text("")
    for file, words in (("none", "No such file"), ("broken", "is not YAML"), ("list", "holds a list")):
        ran = des("config", "check", "--config", f"{file}.yaml")
        assert ran.code == Exit.USAGE
        assert ran.err.startswith(f"des: configuration file {file}.yaml")
        assert words in ran.err
    assert des("config", "check", "--config", "empty.yaml").code == Exit.OK


def test_a_variable_that_means_nothing_is_only_a_warning(des):
    env = {"DES_LOG_SEGMENT_BYTES": "canary", "DES_ADDRESS": "x:1"}
    warning = (
        "des: warning: variable DES_LOG_SEGMENT_BYTES is no setting and has no effect; "
        "did you mean DES_LOG__SEGMENT_BYTES?\n"
    )
    ran = des("config", "check", env=env)
    assert (ran.code, ran.text, ran.err) == (Exit.OK, "settings are right\n", warning)
    for arguments in ([], ["--json"]):
        ran = des("config", "show", *arguments, env=env)
        assert (ran.code, ran.err) == (Exit.OK, warning)
        assert "canary" not in ran.text


def test_variables_that_the_file_of_sources_asks_for_have_an_effect(des):
    (des.folder / "sources.yaml").write_text("password: ${DES_SCANS_PASSWORD}\n")
    env = {"DES_SOURCES": "sources.yaml", "DES_SCANS_PASSWORD": "x"}
    assert des("config", "check", env=env).err == ""
    assert "DES_SCANS_PASSWORD" in des("config", "check", env=env | {"DES_SOURCES": "gone.yaml"}).err


def test_serve_refuses_wrong_settings_before_it_starts(des):
    ran = des("serve", "--data-dir", "d", env={"DES_NODE_ID": "x"})
    assert ran.code == Exit.USAGE
    assert "node_id: found 'x' from variable DES_NODE_ID" in ran.err
    assert not (des.folder / "d").exists()
