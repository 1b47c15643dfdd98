/** What went wrong, in a sentence for the page: what it is, and the way out. */
export class Problem extends Error {}

/** The sentence of any error. One that nobody expected goes to the console too. */
export function describe(error) {
  if (error instanceof Problem) return error.message;
  console.error(error);
  return `Something went wrong that should not: ${error.message}. Reload the page, or tell the project.`;
}
