# A client that was configured with a namespace: pushes ARGV[0] jobs under it and prints their tags as one line of JSON.
require "json"
require "redis-namespace"
require_relative "jobs"

Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("REDIS_URL"), namespace: "shop" } }
tags = (0...Integer(ARGV[0])).map { |n| "namespaced-#{n}" }
tags.each { |tag| PlainJob.perform_async(tag) }
puts JSON.generate(ran: tags)
