#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/digest.h"
#include "server/http_message.h"
#include "server/server_options.h"
#include "server/serving_context.h"

namespace gimbal::server {

// Routes requests to the endpoints: keys, CORS, errors, and everything that is answered at once.
// Thread-safe; set_context and set_draining may be called while requests are served.
class Api final : public HttpHandler {
 public:
  // `options` must outlive the api. `connections` tells how many are open.
  Api(const ServerOptions& options, ServerMetrics& metrics,
      std::function<std::size_t()> connections);

  [[nodiscard]] std::unique_ptr<HttpJob> handle(HttpRequest request,
                                                HttpExchange& exchange) override;
  [[nodiscard]] HttpResponse refuse(int status, std::string_view reason) override;

  // From now on requests to the model are served. `context` must outlive the api.
  void set_context(ServingContext& context) { context_.store(&context); }
  // From now on /ready and new work get a 503.
  void set_draining() { draining_.store(true); }

 private:
  struct Route;
  static const Route kRoutes[];

  [[nodiscard]] std::unique_ptr<HttpJob> serve(HttpRequest& request, HttpExchange& exchange,
                                               const std::string& cors);
  // What is answered whatever the target: preflights, wrong methods, wrong keys. nullopt: it is to
  // be served. `cors`: the client's origin may read the answer.
  [[nodiscard]] std::optional<HttpResponse> turn_away(const Route& route, std::string_view path,
                                                      const HttpRequest& request, bool cors);
  [[nodiscard]] std::unique_ptr<HttpJob> serve_model(const Route& route, HttpRequest& request,
                                                     HttpExchange& exchange,
                                                     const std::string& cors);
  [[nodiscard]] HttpResponse health() const;
  [[nodiscard]] HttpResponse ready() const;
  [[nodiscard]] HttpResponse metrics_text() const;
  [[nodiscard]] HttpResponse debug(const Route& route, const HttpRequest& request) const;
  [[nodiscard]] HttpResponse models(std::string_view name) const;
  [[nodiscard]] std::string cors_headers(std::string_view origin) const;

  const ServerOptions& options_;
  ServerMetrics& metrics_;
  std::function<std::size_t()> connections_;
  ApiKeys keys_;
  std::atomic<ServingContext*> context_{nullptr};
  std::atomic<bool> draining_{false};
};

}  // namespace gimbal::server
