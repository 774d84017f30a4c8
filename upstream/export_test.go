package upstream

// AssertHeadersIntact lets the tests of exchanges look at the shared headers.
var AssertHeadersIntact = assertHeadersIntact
