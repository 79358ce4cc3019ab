package accounts

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Errors of decodeJSON say where, and nothing of what: the text may be a private
// key.
var (
	errJSON        = errors.New("not JSON of the expected form")
	errJSONMembers = errors.New("a JSON object with two members of one name")
)

// decodeJSON reads one JSON value into v, which is the whole of data. It refuses
// members that v does not have, and members of one name, of which encoding/json
// would take the last.
func decodeJSON(data []byte, v any) error {
	if err := checkMembers(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errJSON
	}
	return nil
}

// checkMembers reports whether data is one JSON value in which no object has two
// members of one name, in upper or lower case: encoding/json takes both.
func checkMembers(data []byte) error {
	if !json.Valid(data) {
		return errJSON
	}
	// What is open: the names in an object, nil for an array.
	var open []map[string]bool
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	name := false // a name is next
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errJSON
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, make(map[string]bool))
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
		case string:
			if name {
				t = strings.ToLower(t)
				names := open[len(open)-1]
				if names[t] {
					return errJSONMembers
				}
				names[t] = true
				name = false
				continue
			}
		}
		name = len(open) > 0 && open[len(open)-1] != nil
	}
}
