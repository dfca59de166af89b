/// What was found of one paper.
struct PaperResult {
  let paper: Paper
  let claims: [Claim]
  var figures: [Figure] = []
}
