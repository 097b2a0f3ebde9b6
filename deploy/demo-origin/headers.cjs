// What an application says to a cache: how long, and under which tags. `/products/3` carries `products` and `products-3`.
module.exports = (request, response, next) => {
  if (request.method === "GET") {
    const [collection, id] = request.path.split("/").filter(Boolean);
    const tags = [collection, id && `${collection}-${id}`].filter(Boolean);
    response.setHeader("Cache-Control", "max-age=60, stale-while-revalidate=30");
    if (tags.length > 0) response.setHeader("Surrogate-Key", tags.join(" "));
  }
  next();
};
