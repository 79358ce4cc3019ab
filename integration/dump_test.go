package integration_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// dump returns all that a database holds: every row of every table, as text, and what
// is bytes as it is.
func dump(t *testing.T, db *sql.DB) (text []byte, rows int) {
	t.Helper()
	type column struct{ table, name, kind string }
	list, err := db.Query(`SELECT quote_ident(table_schema) || '.' || quote_ident(table_name), column_name, data_type
		FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
		ORDER BY 1, ordinal_position`)
	check(t, err)
	columns := make(map[string][]string)
	for list.Next() {
		var c column
		check(t, list.Scan(&c.table, &c.name, &c.kind))
		name := pgx.Identifier{c.name}.Sanitize()
		if c.kind != "bytea" {
			name += "::text"
		}
		columns[c.table] = append(columns[c.table], name)
	}
	check(t, list.Err())
	for table, names := range columns {
		content, err := db.Query(`SELECT ` + strings.Join(names, ", ") + ` FROM ` + table)
		check(t, err)
		for content.Next() {
			values := make([]sql.RawBytes, len(names))
			into := make([]any, len(names))
			for i := range values {
				into[i] = &values[i]
			}
			check(t, content.Scan(into...))
			rows++
			text = fmt.Appendf(text, "%s\n", table)
			for i, v := range values {
				text = fmt.Appendf(text, "%s\n%s\n", names[i], v)
			}
		}
		check(t, content.Err())
	}
	return text, rows
}
