package limits

// NewBookOf returns a book that counts no more than so many ids of a team at
// once.
func NewBookOf(room int) *Book {
	b := NewBook()
	b.room = room
	return b
}

// Counted is how many ids of a team are counted.
func (b *Book) Counted(team string) int { return len(b.shelves[Key{team, Each}].list) }
