-- Three roles of the catalog's database, and who may what. Run once by its owner, before the first `des migrate`:
--
--   psql -d des -f docker/privileges/roles.sql
--   psql -d des -c "ALTER ROLE des_app PASSWORD '...'"       and so on
--
--   des_migrate   makes and changes tables: for `des migrate` alone, at an upgrade
--   des_app       what servers, packers, markers and `des fsck|gc|recover` use: rows, no tables
--   des_read      looks: for reports
--
-- It may be run again.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['des_migrate', 'des_app', 'des_read'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format(
                'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role_name
            );
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO des_migrate, des_app, des_read', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO des_migrate;
GRANT USAGE ON SCHEMA public TO des_app, des_read;

-- Which revision the tables have. It stands before all others, so that nobody but des_migrate ever writes to it.
CREATE TABLE IF NOT EXISTS public.alembic_version (
    version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY
);
ALTER TABLE public.alembic_version OWNER TO des_migrate;
GRANT SELECT ON public.alembic_version TO des_app, des_read;

-- What des_migrate makes, now and later.
ALTER DEFAULT PRIVILEGES FOR ROLE des_migrate IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO des_app;
ALTER DEFAULT PRIVILEGES FOR ROLE des_migrate IN SCHEMA public GRANT SELECT ON TABLES TO des_read;
