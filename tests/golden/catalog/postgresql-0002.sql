SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.des_containers (
    container_id character varying(36) NOT NULL,
    day character varying(8) NOT NULL,
    shard_id bigint NOT NULL,
    shard_span bigint NOT NULL,
    shard_bits smallint NOT NULL,
    hash_first bigint NOT NULL,
    hash_stop bigint NOT NULL,
    key text NOT NULL,
    state character varying(16) NOT NULL,
    epoch bigint NOT NULL,
    layout character varying(16) NOT NULL,
    sha256 character varying(64) NOT NULL,
    size bigint NOT NULL,
    data_start bigint NOT NULL,
    data_length bigint NOT NULL,
    meta_start bigint NOT NULL,
    meta_length bigint NOT NULL,
    index_start bigint NOT NULL,
    index_length bigint NOT NULL,
    file_count integer NOT NULL,
    name_ms_first bigint NOT NULL,
    name_ms_last bigint NOT NULL,
    data_bytes bigint NOT NULL,
    node character varying(36) NOT NULL,
    etag text NOT NULL,
    created_at bigint NOT NULL,
    stored_at bigint,
    ext_table_start bigint DEFAULT '0'::bigint NOT NULL,
    pages_start bigint DEFAULT '0'::bigint NOT NULL,
    pages_length bigint DEFAULT '0'::bigint NOT NULL,
    page_count bigint DEFAULT '0'::bigint NOT NULL,
    CONSTRAINT ck_des_containers_counts CHECK (((file_count >= 0) AND (data_bytes >= 0) AND (name_ms_first <= name_ms_last) AND (epoch >= 0))),
    CONSTRAINT ck_des_containers_day CHECK ((length((day)::text) = 8)),
    CONSTRAINT ck_des_containers_geometry CHECK (((size > 0) AND (data_start >= 0) AND (data_length >= 0) AND (meta_start >= 0) AND (meta_length >= 0) AND (index_start >= 0) AND (index_length >= 0) AND ((data_start + data_length) <= size) AND ((meta_start + meta_length) <= size) AND ((index_start + index_length) <= size))),
    CONSTRAINT ck_des_containers_hash CHECK ((((shard_bits >= 0) AND (shard_bits <= 32)) AND (0 <= hash_first) AND (hash_first < hash_stop) AND (hash_stop <= '4294967296'::bigint))),
    CONSTRAINT ck_des_containers_run CHECK (((shard_span >= 1) AND ((shard_span & (shard_span - 1)) = 0) AND (shard_id >= 0) AND ((shard_id % shard_span) = 0))),
    CONSTRAINT ck_des_containers_sha256 CHECK ((length((sha256)::text) = 64)),
    CONSTRAINT ck_des_containers_state CHECK (((((state)::text = 'uploading'::text) AND (etag = ''::text) AND (stored_at IS NULL)) OR (((state)::text = 'stored'::text) AND (etag <> ''::text) AND (stored_at IS NOT NULL))))
);
CREATE TABLE public.des_nodes (
    node character varying(36) NOT NULL,
    name character varying(255) NOT NULL,
    address character varying(255) NOT NULL,
    version character varying(64) NOT NULL,
    boot_epoch bigint NOT NULL,
    heartbeat_at bigint NOT NULL
);
CREATE TABLE public.des_shard_locks (
    shard_id bigint NOT NULL,
    holder character varying(36) NOT NULL,
    epoch bigint NOT NULL,
    acquired_at bigint NOT NULL,
    heartbeat_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    state character varying(8) NOT NULL,
    CONSTRAINT ck_des_shard_locks_epoch CHECK ((epoch >= 0)),
    CONSTRAINT ck_des_shard_locks_shard CHECK ((shard_id >= 0)),
    CONSTRAINT ck_des_shard_locks_state CHECK (((((state)::text = 'held'::text) AND ((holder)::text <> ''::text)) OR (((state)::text = 'free'::text) AND ((holder)::text = ''::text) AND (expires_at = 0))))
);
CREATE TABLE public.des_store (
    singleton smallint NOT NULL,
    store_id character varying(36) NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT ck_des_store_one_row CHECK ((singleton = 1))
);
INSERT INTO public.alembic_version VALUES ('0002');
INSERT INTO public.des_containers VALUES ('0193a000-0000-7000-8000-000000000001', '20260228', 8, 1, 8, 134217728, 150994944, '20260228/08/1.des', 'stored', 5, 'framed', '0000000000000000000000000000000000000000000000000000000000000001', 10000000000, 16, 9000000000, 9000000016, 0, 9000000016, 500000000, 100, 1772236800000, 1772236900000, 20000000000, '0193a000-0000-7000-8000-0000000000cc', '"e1"', 1772236850000, 1772236900000, 0, 0, 0, 0);
INSERT INTO public.des_containers VALUES ('0193a000-0000-7000-8000-000000000002', '20260228', 8, 1, 8, 134217728, 150994944, '20260228/08/2.des', 'uploading', 5, 'framed', '0000000000000000000000000000000000000000000000000000000000000002', 10000000000, 16, 9000000000, 9000000016, 0, 9000000016, 500000000, 100, 1772236800000, 1772236900000, 20000000000, '0193a000-0000-7000-8000-0000000000cc', '', 1772236850000, NULL, 0, 0, 0, 0);
INSERT INTO public.des_containers VALUES ('0193a000-0000-7000-8000-000000000003', '20260228', 8, 1, 8, 134217728, 150994944, '20260228/08/3.des', 'stored', 5, 'framed', '0000000000000000000000000000000000000000000000000000000000000003', 10000000000, 16, 9000000000, 9000000016, 0, 9000000016, 500000000, 100, 1772236800000, 1772236900000, 20000000000, '0193a000-0000-7000-8000-0000000000cc', '"e3"', 1772236850000, 1772236900000, 9900000000, 9500001000, 28672, 6);
INSERT INTO public.des_nodes VALUES ('0193a000-0000-7000-8000-0000000000cc', 'anna', '127.0.0.1:7420', '0.1.0', 3, 1772236800123);
INSERT INTO public.des_shard_locks VALUES (8, '0193a000-0000-7000-8000-00000000000a', 5, 1772236800000, 1772236801000, 1772236831000, 'held');
INSERT INTO public.des_shard_locks VALUES (9, '', 4, 1772236800000, 1772236801000, 0, 'free');
INSERT INTO public.des_store VALUES (1, '0193a000-0000-4000-8000-00000000aaaa', 1772236800000);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.des_containers
    ADD CONSTRAINT pk_des_containers PRIMARY KEY (container_id);
ALTER TABLE ONLY public.des_nodes
    ADD CONSTRAINT pk_des_nodes PRIMARY KEY (node);
ALTER TABLE ONLY public.des_shard_locks
    ADD CONSTRAINT pk_des_shard_locks PRIMARY KEY (shard_id);
ALTER TABLE ONLY public.des_store
    ADD CONSTRAINT pk_des_store PRIMARY KEY (singleton);
ALTER TABLE ONLY public.des_containers
    ADD CONSTRAINT uq_des_containers_key UNIQUE (key);
CREATE INDEX ix_des_containers_day_state_hash_first ON public.des_containers USING btree (day, state, hash_first);
