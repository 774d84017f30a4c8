package scopegate

// StatusOf lets the documentation's tests see what callers are answered.
var StatusOf = statusOf
