package build

// WriteImageArchive is what nerdctl loads a local image from.
var WriteImageArchive = writeImageArchive
