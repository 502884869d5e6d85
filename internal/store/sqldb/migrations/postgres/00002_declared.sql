-- +goose Up

-- What the configuration file declared when it was last in force: who went from
-- it while the service was down is known by this.
CREATE TABLE declared (
    id     TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL
);
